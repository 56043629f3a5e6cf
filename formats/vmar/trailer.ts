// SPDX-License-Identifier: MIT
// What a container ends with (SPEC.md §4.3): two tables and a footer.

export * from './footer.js';
export * from './table.js';
