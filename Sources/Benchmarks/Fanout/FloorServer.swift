// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import ClusterHarness
import PosixIO

/// The server in C that the node is compared with.
final class FloorServer: Sendable {
    let port: UInt16
    let process: ServerProcess

    init(eventBytes: Int) throws(BenchmarkError) {
        let port = try ServerProcess.freePort()
        self.port = port
        let directory = try ServerProcess.temporaryDirectory("floor")
        process = try ServerProcess(
            "the floor", in: directory,
            command: HelperServer.floor.command(["\(port)", "\(eventBytes)"])
        ) { (try? Self.get("/stats", port: port)) != nil }
    }

    /// Begins a schedule, whose start may be in the future.
    func begin(_ schedule: Schedule) throws(BenchmarkError) {
        try Self.get(
            "/pace?start=\(schedule.start.nanoseconds)&interval=\(schedule.intervalNanoseconds)"
                + "&count=\(schedule.batches)&batch=\(schedule.eventsPerBatch)", port: port)
    }

    private static func get(_ target: String, port: UInt16) throws(BenchmarkError) {
        do throws(ClusterHarnessError) {
            _ = try LoopbackHTTP.get(target, port: port, within: .seconds(5))
        } catch {
            throw BenchmarkError(.unavailable, "the floor: \(error)")
        }
    }
}
