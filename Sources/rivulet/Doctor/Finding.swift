// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One thing that was looked at, and what it means.
struct Finding: Sendable, Equatable {
    /// In ascending order of how much it will hurt.
    enum Severity: String, Sendable, CaseIterable, Comparable {
        /// As it should be.
        case ok
        /// Could not be looked at, or only worth knowing.
        case note
        /// Hurts under load or in a fault.
        case warning
        /// Loses events or keeps the node from working.
        case danger

        static func < (a: Severity, b: Severity) -> Bool { a.rank < b.rank }
        private var rank: Int { Self.allCases.firstIndex(of: self)! }
    }

    enum Subject: String, Sendable, CaseIterable {
        case configuration, machine, redis, kafka, nodes
    }

    let severity: Severity
    let subject: Subject
    /// What was found, with the value.
    let found: String
    /// What comes of it; empty where all is well.
    let consequence: String
    /// What to do about it; empty where nothing has to be done.
    let remedy: String

    init(
        _ severity: Severity, _ subject: Subject, _ found: String, consequence: String = "",
        remedy: String = ""
    ) {
        self.severity = severity
        self.subject = subject
        self.found = found
        self.consequence = consequence
        self.remedy = remedy
    }
}
