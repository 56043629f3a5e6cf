// SPDX-License-Identifier: MIT
// How a command that a job has started learns that the runner is no more.

/**
 * In the environment: the end of standard input is as good as a signal. The kernel closes it when the runner is no more, even
 * by kill -9; nobody would end a backup in time then, or know of it.
 */
export const ENDS_WITH_INPUT = 'VMAR_ENDS_WITH_INPUT';
