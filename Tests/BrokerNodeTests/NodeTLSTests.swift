// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import BrokerTestKit
import ClusterHarness
import NodeConfiguration
import Testing

extension BrokerNodeTests {
    @Suite("Over TLS")
    struct NodeTLSTests {
        @Test("a node without a plain port, its Redis over TLS, serves and takes a new certificate")
        func encryptedThroughout() throws {
            let authority = try TestAuthority()
            let identity = try authority.issue("node")
            let redisPort = try #require(FreePort.choose())
            let bench = try NodeBench(redisArguments: [
                "--tls-port", "\(redisPort)", "--tls-cert-file", identity.certificateFile,
                "--tls-key-file", identity.keyFile, "--tls-ca-cert-file",
                authority.certificateFile, "--tls-auth-clients", "no",
            ])
            let port = try bench.start {
                $0.server.listen = []
                $0.server.tlsListen = ["127.0.0.1:0"]
                $0.server.tlsCertificate = identity.certificateFile
                $0.server.tlsKey = identity.keyFile
                $0.redis.url = "rediss://localhost:\(redisPort)/0"
                $0.redis.tlsAuthority = authority.certificateFile
            }
            defer { bench.stop() }
            func curl(_ arguments: [String]) -> (end: ChildProcess.End, output: String)? {
                ChildProcess.run(
                    ["curl", "-sS", "--cacert", authority.certificateFile] + arguments,
                    in: authority.directory)
            }
            let base = "https://localhost:\(port)"
            #expect(
                Waiting.until(within: .seconds(20)) {
                    curl(["-f", "\(base)/readyz"])?.end == .exited(0)
                })
            // A stream goes on until the client has had enough of it: curl's exit status is 28.
            let stream = try #require(
                curl(["-N", "--max-time", "3", "\(base)/api/v1/sse/system"]))
            #expect(stream.end == .exited(28) && stream.output.contains("event: "))

            func shown() -> String {
                let command = "openssl s_client -connect 127.0.0.1:\(port) | openssl x509 -serial"
                return ChildProcess.run(["sh", "-c", command], in: authority.directory)?.output
                    ?? ""
            }
            let before = shown().split(separator: "\n").first { $0.hasPrefix("serial=") }
            _ = try authority.issue("node")
            bench.reload()
            let after = shown().split(separator: "\n").first { $0.hasPrefix("serial=") }
            #expect(before != nil && after != nil && before != after)

            _ = try authority.directory.write("spoilt", to: "node.pem")
            bench.reload()
            #expect(shown().contains(try #require(after)))
            let metrics = try #require(curl(["\(base)/metrics"])).output
            #expect(metrics.contains("rivulet_tls_reloads_total{outcome=\"done\"} 1"))
            #expect(metrics.contains("rivulet_tls_reloads_total{outcome=\"failed\"} 1"))
            #expect(metrics.contains("rivulet_tls_certificate_expiry_seconds 1"))
        }

        @Test("a certificate that cannot be used keeps the node from starting, and it says why")
        func unusable() throws {
            let bench = try NodeBench()
            #expect {
                _ = try bench.start {
                    $0.server.tlsListen = ["127.0.0.1:0"]
                    $0.server.tlsCertificate = "/nowhere/node.pem"
                    $0.server.tlsKey = "/nowhere/node.key"
                }
            } throws: { error in
                "\(error)".contains("certificate file /nowhere/node.pem: No such file")
            }
        }
    }
}
