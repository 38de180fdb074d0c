// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// How long a hub waits before it pushes, so that under load several events leave in one write.
///
/// What a connection costs is the write, whatever is in it. While one pass over all connections is
/// under way, batches gather by themselves and the next pass takes them along; a moment's rest after
/// a pass lets the threads behind it hand over what they hold. The rest is as long as the pass was
/// and never longer than a bound, so it is there under load alone: whoever publishes when the last
/// pass has been over for that long waits for nothing, and where passes are short nobody ever does.
///
/// View: shard. No clock of its own: the times come from the caller.
struct PassPacing {
    private let waitMax: Duration
    private var restsUntil = MonotonicTime(nanoseconds: 0)

    /// Less than this is not worth a timer, whose steps are a millisecond.
    static let waitMin: Duration = .milliseconds(1)

    /// - Parameter waitMax: Zero for none at all.
    init(waitMax: Duration) { self.waitMax = waitMax }

    mutating func passEnded(began: MonotonicTime, ended: MonotonicTime) {
        let wait = min(waitMax, ended - began)
        restsUntil = wait < Self.waitMin ? MonotonicTime(nanoseconds: 0) : ended + wait
    }

    /// How long a push wanted at `now` has to wait.
    func wait(at now: MonotonicTime) -> Duration { max(.zero, restsUntil - now) }
}
