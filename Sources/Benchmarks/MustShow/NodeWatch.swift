// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// Looks at a node again and again from a thread of its own, as whoever scrapes it does.
final class NodeWatch: Sendable {
    struct Seen: Sendable {
        var lagEventsMax = 0.0
        var lagClosed = 0.0
        var residentBytesMax = 0
    }

    private struct State {
        var seen = Seen()
        var isOver = false
    }

    private let state = Lock(State())
    private let thread: NamedThread

    init(_ node: NodeServer, every interval: Duration = .milliseconds(250)) {
        let state = state
        let names = ["rivulet_lag_events_max", "rivulet_lag_closed_total"]
        let pause = CInt(clamping: interval.wholeMilliseconds)
        thread = NamedThread("watch") {
            while !state.withLock({ $0.isOver }) {
                // A page that does not come in time has nothing new to say.
                let found = node.metrics(names) ?? [0, 0]
                let resident = ProcessMeter.residentBytes(of: node.process.id)
                state.withLock { state in
                    state.seen.lagEventsMax = max(state.seen.lagEventsMax, found[0])
                    state.seen.lagClosed = max(state.seen.lagClosed, found[1])
                    state.seen.residentBytesMax = max(state.seen.residentBytesMax, resident)
                }
                _ = poll(nil, 0, pause)
            }
        }
    }

    /// Ends it and says what it has seen.
    func end() -> Seen {
        state.withLock { $0.isOver = true }
        thread.join()
        return state.withLock { $0.seen }
    }
}
