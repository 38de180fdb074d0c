// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO

/// What arrived over all connections since the tally was begun.
struct StreamTally: Sendable {
    /// Events due from here on and before ``until`` count for ``latency``.
    var from = MonotonicTime(nanoseconds: 0)
    var until = MonotonicTime(nanoseconds: .max)
    /// From when an event was due until it was read from the socket.
    var latency = LatencyHistogram()
    /// All, whenever they were due.
    var events = 0
    var bytes = 0
    /// Events by which a server said that others are missing.
    var gaps = 0
    /// Connections that the server has ended.
    var ended = 0
    var firstEvent: MonotonicTime?
    var lastEvent: MonotonicTime?
}
