// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a test got no cluster, or no answer from it.
package struct ClusterHarnessError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        /// The program under test has not been built.
        case programMissing
        /// A file, port or directory for the test could not be had.
        case noResource
        /// A process ended that should run.
        case processEnded
        /// What was waited for did not happen in time.
        case timedOut
        /// The other side does not answer, or not with HTTP.
        case noAnswer
    }

    package let code: Code
    package let detail: String

    package init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { "harness.\(code.rawValue): \(detail)" }
}
