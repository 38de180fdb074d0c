// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Who makes the node's events appear when they are due.
///
/// Threads: one thread begins and ends; the work is done on threads of the source's own.
protocol EventSource: AnyObject {
    /// Begins a schedule, whose start may be in the future. The one before must be over.
    func begin(_ schedule: Schedule) throws(BenchmarkError)

    /// Waits for the end of the schedule; how many of its events were not taken.
    func finish() -> Int
}
