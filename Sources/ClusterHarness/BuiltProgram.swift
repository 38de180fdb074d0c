// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Finds the program under test.
package enum BuiltProgram {
    /// The path of `rivulet`: what the environment variable `BINARY` says, else the one that was
    /// built with this test.
    package static func path() throws(ClusterHarnessError) -> String {
        if let given = unsafe getenv("BINARY"), unsafe given[0] != 0 {
            let path = unsafe String(cString: given)
            guard isProgram(path) else {
                throw ClusterHarnessError(.programMissing, "BINARY=\(path) is no program")
            }
            return path
        }
        // `.build/<configuration>/rivuletPackageTests.xctest` stands beside the programs; run
        // through a helper of the toolchain, the bundle is among that one's arguments.
        for argument in CommandLine.arguments {
            guard let slash = argument.lastIndex(of: "/") else { continue }
            let path = argument[..<slash] + "/rivulet"
            if isProgram(String(path)) { return String(path) }
        }
        throw ClusterHarnessError(
            .programMissing,
            "no rivulet beside \(CommandLine.arguments.first ?? "this test"); "
                + "build it (swift build) or name it in BINARY")
    }

    private static func isProgram(_ path: String) -> Bool {
        unsafe access(path, X_OK) == 0
    }
}
