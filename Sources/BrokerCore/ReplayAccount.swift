// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// How much memory the batches take that were read back from history.
///
/// View: node. Threads: any. A batch is counted as long as anybody holds it, once.
package final class ReplayAccount: Sendable {
    private let bytes = Atomic<Int>(0)

    package init() {}

    package var heldBytes: Int { bytes.load(ordering: .relaxed) }

    func add(_ count: Int) { bytes.add(count, ordering: .relaxed) }
}
