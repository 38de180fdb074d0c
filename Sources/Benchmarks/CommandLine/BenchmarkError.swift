// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a benchmark gave no figures.
struct BenchmarkError: Error, Sendable, CustomStringConvertible {
    enum Code: String, Sendable, CaseIterable {
        /// An option or a value that is not accepted.
        case usage
        /// A program, port, file or processor that the benchmark needs and cannot have.
        case unavailable
        /// What was measured did not do what it should.
        case failed
    }

    let code: Code
    let detail: String

    init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    var description: String { detail }

    /// As the shell sees it; the numbers from 64 on are those of sysexits.h.
    var exitStatus: Int32 {
        switch code {
        case .usage: 64
        case .unavailable: 69
        case .failed: 1
        }
    }
}
