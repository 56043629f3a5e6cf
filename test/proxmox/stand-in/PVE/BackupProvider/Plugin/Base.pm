# SPDX-License-Identifier: MIT
# STAND-IN, for tests only: not Proxmox's class of this name. It knows which methods a provider owes, and does nothing.

package PVE::BackupProvider::Plugin::Base;

use v5.28;
use warnings;

our @OWED = qw(
    new provider_name job_init job_cleanup backup_init backup_cleanup backup_get_mechanism backup_handle_log_file
    backup_vm_query_incremental backup_vm backup_container_prepare backup_container
    restore_get_mechanism archive_get_guest_config archive_get_firewall_config
    restore_vm_init restore_vm_cleanup restore_vm_volume_init restore_vm_volume_cleanup
    restore_container_init restore_container_cleanup
);

1;
