// SPDX-License-Identifier: MIT
// What users of the library see. Nothing of it writes to the terminal, reads the environment or ends the process.

export { createImageSource, type ImageHost } from '../plugins/source-image/source-image.js';
export { createNbdSource, type NbdHost } from '../plugins/source-nbd/source-nbd.js';
export { ArchiveSink } from './archive/archive-sink.js';
export { type ArchiveTarget, type ArchiveVaultOptions, openArchiveVault } from './archive/archive-vault.js';
export { BackupDisk, type BackupDiskOptions, openBackupDisk } from './archive/backup-disk.js';
export { type DatastoreVaultOptions, openDatastoreVault } from './archive/datastore-vault.js';
export { type ChangedExtent, type DiffSide, diffDisks } from './archive/diff.js';
export { createMachine, type Machine, type MachineOptions } from './archive/machine.js';
export { type OpenBackup, openArchive, openBackup } from './archive/open-backup.js';
export {
  type DiskAssignment,
  type RestoreBackupOptions,
  type RestoreSummary,
  restoreBackup,
} from './archive/restore.js';
export type { Vault } from './archive/vault.js';
export type { DamageRecord, VerifyReport } from './archive/verify/damage.js';
export { verifyArchive } from './archive/verify/verify-archive.js';
export { type VerifyOptions, verifyDatastore } from './archive/verify/verify-datastore.js';
export { type Clock, REAL_CLOCK } from './base/clock.js';
export * from './base/errors.js';
export { type Log, SILENT } from './base/log.js';
export { BlockNode, type FilterDevice } from './block/block-node.js';
export { type Claim, claim, type Permission } from './block/claims.js';
export { DirtyBitmap, type DirtyRange } from './block/dirty-bitmap.js';
export { type FileDeviceOptions, openFileDevice } from './block/file-device.js';
export { AllocTrack, type AllocTrackOptions } from './block/filters/alloc-track.js';
export { FaultFilter, type FaultOptions, type FaultRule } from './block/filters/fault.js';
export { ThrottleFilter, type ThrottleLimits } from './block/filters/throttle.js';
export { MemoryDevice } from './block/memory-device.js';
export { NullDevice } from './block/null-device.js';
export { RequestList, type TrackedRequest } from './block/request-list.js';
export { attachTogether, DiskBackupJob, type DiskBackupOptions, type LiveSource } from './jobs/backup-disk-job.js';
export { BackupJob, type BackupJobDisk, type BackupJobOptions, type BackupJobState } from './jobs/backup-job.js';
export type { BackupSync } from './jobs/backup-sync.js';
export { DeviceTarget } from './jobs/backup-to-device.js';
export type { ErrorAction, IoStatus, JobIoError, JobStatus } from './jobs/job.js';
export { MirrorJob, type MirrorJobOptions } from './jobs/mirror-job.js';
export type { JobProgress } from './jobs/progress.js';
export { StreamJob, type StreamJobOptions, type StreamTarget } from './jobs/stream-job.js';
export { insertBacking, NodeStreamJob, type NodeStreamOptions } from './jobs/stream-node.js';
export { JobTransaction, type TransactionOptions } from './jobs/transaction.js';
export { type NbdDevice, type NbdDeviceOptions, openNbdDevice } from './nbd/client/nbd-client.js';
export { createExecutor, type Executor, type ExecutorOptions } from './pipeline/executor.js';
export * from './plugin-api.js';
export { type BackupRef, formatBackupId, type GuestRef, parseBackupId } from './store/backup-id.js';
export { type Datastore, type DatastoreOptions, openDatastore } from './store/datastore.js';
export { type InitOptions, initDatastore } from './store/init.js';
export { listManifests, type ManifestList, type StoredManifest } from './store/manifests.js';
