// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness

/// A redis-server of the benchmark's own, on loopback, which keeps nothing.
final class RedisServer: Sendable {
    private let process: RedisServerProcess

    init() throws(BenchmarkError) {
        do throws(RedisServerError) {
            process = try RedisServerProcess()
        } catch {
            throw BenchmarkError(.unavailable, "\(error)")
        }
    }

    var port: UInt16 { process.port }
    var url: String { "redis://127.0.0.1:\(process.port)/0" }

    /// Makes it as it was when it started.
    func empty() throws(BenchmarkError) {
        _ = try ask("FLUSHALL")
    }

    /// User and system seconds that it has used.
    func seconds() throws(BenchmarkError) -> Double {
        let reply = try ask("INFO cpu")
        var sum = 0.0
        for name in ["used_cpu_sys:", "used_cpu_user:"] {
            for line in reply.split(whereSeparator: \.isNewline) where line.hasPrefix(name) {
                sum += Double(line.dropFirst(name.count)) ?? 0
            }
        }
        return sum
    }

    private func ask(_ command: String) throws(BenchmarkError) -> String {
        do throws(ClusterHarnessError) {
            // QUIT makes the server close, which is how the end of the answer is known.
            return try LoopbackHTTP.exchange(
                Array("\(command)\r\nQUIT\r\n".utf8), port: port, within: .seconds(10)
            ).text
        } catch {
            throw BenchmarkError(.unavailable, "Redis: \(error)")
        }
    }
}
