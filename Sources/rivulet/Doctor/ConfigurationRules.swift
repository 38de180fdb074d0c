// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration
import PosixIO

/// What in the configuration will hurt, by itself or behind a balancer.
enum ConfigurationRules {
    /// What balancers cut after, where nobody has said anything else: nginx and most clouds.
    static let balancerTimeout: Duration = .seconds(60)

    static func findings(_ configuration: Configuration, balancerTimeout: Duration) -> [Finding] {
        [heartbeat(configuration, balancerTimeout), listening(configuration)]
    }

    private static func heartbeat(_ configuration: Configuration, _ timeout: Duration) -> Finding {
        let heartbeat = configuration.server.heartbeat
        let found =
            "server.heartbeat is \(DurationText.short(heartbeat)), a balancer's idle timeout "
            + DurationText.short(timeout)
        // Two chances: one heartbeat may be late.
        guard heartbeat * 2 > timeout else { return Finding(.ok, .configuration, found) }
        return Finding(
            heartbeat >= timeout ? .danger : .warning, .configuration, found,
            consequence: "the balancer cuts quiet streams, which come back again and again",
            remedy:
                "a heartbeat of at most \(DurationText.short(timeout / 3)), or a longer timeout "
                + "in the balancer (--balancer-timeout tells this check)")
    }

    private static func listening(_ configuration: Configuration) -> Finding {
        let plain = configuration.server.listen
        let all = plain + configuration.server.tlsListen
        let found = "listens on \(Tabulation.list(all))"
        func isLoopback(_ address: String) -> Bool {
            address.hasPrefix("127.") || address.hasPrefix("[::1]")
                || address.hasPrefix("localhost:")
        }
        if all.allSatisfy(isLoopback) {
            return Finding(
                .note, .configuration, found,
                consequence: "only this machine can connect",
                remedy: "server.listen with an address that the balancer reaches")
        }
        guard plain.allSatisfy(isLoopback) else {
            return Finding(
                .note, .configuration, found,
                consequence: "without TLS anybody on the way can read the streams",
                remedy: "keep these addresses inside a network you trust, or use server.tls_listen")
        }
        return Finding(.ok, .configuration, found)
    }
}
