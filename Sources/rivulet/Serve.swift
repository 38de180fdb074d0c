// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// `rivulet serve`: runs a node until it is told to stop.
///
/// - Parameter arguments: What follows `serve`.
/// - Returns: The exit status of the process.
func runServe(arguments: [String]) -> Int32 {
    ExitStatus.unavailable.rawValue
}
