// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Testing

/// The promises of a whole cluster, checked on real processes, one test after another.
@Suite("A cluster of real processes", .serialized)
enum Cluster {
    static let detections = "/api/v1/sse/detections"
}

extension Verdict {
    /// Records an issue where something is wrong, with what the nodes logged.
    func demandClean(
        _ cluster: TestCluster, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        guard !isClean else { return }
        Issue.record("\(self)\n\(cluster.diagnosis)", sourceLocation: sourceLocation)
    }
}
