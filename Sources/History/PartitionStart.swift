// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient

/// Where a partition is read from of which history holds no high-water offset.
package struct PartitionStart: Sendable, Equatable {
    package let offset: Int64
    /// True where what lies before is not this group's business: the mark is set there at once, so
    /// that a second start finds the same place although nothing has been appended.
    package let passesOver: Bool

    package init(offset: Int64, passesOver: Bool = false) {
        self.offset = offset
        self.passesOver = passesOver
    }

    /// A commit without a mark means that Redis has lost everything: some of what was committed
    /// last may not have reached every node, and is read again. What was committed and is not held
    /// any more is found to be lost by reading from there.
    package init(_ known: KafkaPartitionStart, startsAtEnd: Bool) {
        let marks = known.watermarks
        if let committed = known.committed, committed <= marks.high {
            let again = committed - PartitionIngest.rewindAfterTotalLoss
            self.init(offset: min(committed, max(again, marks.low)))
        } else if startsAtEnd, known.committed == nil {
            self.init(offset: marks.high, passesOver: marks.high > 0)
        } else {
            // A commit beyond the end is one of an earlier topic of this name.
            self.init(offset: marks.low)
        }
    }
}
