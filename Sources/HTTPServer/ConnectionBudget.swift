// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Decides whether one more connection may be open.
///
/// View: node. Threads: any; the listeners of all loops ask the same object.
package protocol HTTPAdmission: AnyObject, Sendable {
    /// Takes one slot; false where none is free.
    func tryAcquire() -> Bool
    /// Gives back a slot that ``tryAcquire()`` took.
    func release()
    /// The number named to the client that was turned away.
    var limit: Int { get }
    var inUse: Int { get }
}

/// A number of connections that the loops of a node share.
///
/// View: node. Threads: any. The limit is never exceeded, not even for a moment.
package final class ConnectionBudget: HTTPAdmission {
    package let limit: Int
    // Relaxed: the number stands alone; a slot guards no memory of another thread.
    private let taken = Atomic<Int>(0)

    package init(limit: Int) {
        precondition(limit >= 0, "a budget of \(limit) connections")
        self.limit = limit
    }

    package var inUse: Int { taken.load(ordering: .relaxed) }

    package func tryAcquire() -> Bool {
        var seen = taken.load(ordering: .relaxed)
        while seen < limit {
            let (exchanged, original) = taken.weakCompareExchange(
                expected: seen, desired: seen + 1, ordering: .relaxed)
            if exchanged { return true }
            seen = original
        }
        return false
    }

    package func release() {
        let before = taken.wrappingSubtract(1, ordering: .relaxed).oldValue
        precondition(before > 0, "a slot is released that nobody took")
    }
}
