// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// What the machine's limits mean for a node with this configuration.
enum MachineRules {
    /// What a node needs descriptors for beside its clients: loops, Redis, Kafka, files.
    private static let descriptorsReserved = 64
    /// Below this a node is a toy: some shells start with 1,024.
    private static let descriptorsFew = 10_000
    /// Below this, clients that come back all at once are refused by the kernel.
    private static let acceptQueueFew = 1024
    /// A balancer needs one of its ports for each connection to one node.
    private static let localPortsFew = 20_000

    static func findings(_ facts: MachineFacts, _ configuration: Configuration) -> [Finding] {
        [
            descriptors(facts, configuration), acceptQueue(facts, configuration),
            localPorts(facts), memory(facts, configuration),
        ].compactMap { $0 } + redisHost(facts, configuration)
    }

    private static func descriptors(_ facts: MachineFacts, _ configuration: Configuration)
        -> Finding
    {
        let possible = max(0, facts.descriptorsHard - descriptorsReserved)
        let wanted = configuration.limits.connections
        let found =
            "a process may have \(Tabulation.grouped(facts.descriptorsHard)) descriptors, so a "
            + "node holds about \(Tabulation.grouped(possible)) connections"
        let remedy =
            "raise the hard limit: LimitNOFILE= in the unit, --ulimit nofile= of a "
            + "container, or ulimit -Hn"
        if wanted > possible {
            return Finding(
                .warning, .machine, found,
                consequence: "limits.connections is \(Tabulation.grouped(wanted)): the node "
                    + "admits fewer",
                remedy: remedy)
        }
        guard facts.descriptorsHard >= descriptorsFew else {
            return Finding(
                .warning, .machine, found, consequence: "a fleet needs more nodes than it has to",
                remedy: remedy)
        }
        return Finding(.ok, .machine, found)
    }

    private static func acceptQueue(_ facts: MachineFacts, _ configuration: Configuration)
        -> Finding?
    {
        guard let most = facts.acceptQueueMax else { return nil }
        let asked = configuration.server.backlog
        let found = "net.core.somaxconn is \(Tabulation.grouped(most))"
        guard most < asked else { return Finding(.ok, .machine, found) }
        return Finding(
            most < acceptQueueFew ? .warning : .note, .machine, found,
            consequence: "server.backlog asks for \(Tabulation.grouped(asked)); when a lost "
                + "node's clients come back at once, the kernel refuses some of them",
            remedy: "sysctl -w net.core.somaxconn=\(asked)")
    }

    private static func localPorts(_ facts: MachineFacts) -> Finding? {
        guard let ports = facts.localPorts else { return nil }
        let found =
            "\(Tabulation.grouped(ports.count)) local ports "
            + "(\(ports.lowerBound) to \(ports.upperBound))"
        guard ports.count < localPortsFew else { return Finding(.ok, .machine, found) }
        return Finding(
            .warning, .machine, found,
            consequence: "a balancer or a load generator here cannot open more connections than "
                + "that to one address",
            remedy: "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or several addresses")
    }

    private static func memory(_ facts: MachineFacts, _ configuration: Configuration) -> Finding? {
        guard let memory = facts.memoryBytes else { return nil }
        let window = configuration.limits.hotWindowBytes
        let found = "\(facts.processors) processors, \(Tabulation.bytes(memory)) of memory"
        guard window > memory / 4 else { return Finding(.ok, .machine, found) }
        return Finding(
            .warning, .machine, found,
            consequence:
                "limits.hot_window_bytes is \(Tabulation.bytes(window)), more than a quarter "
                + "of it",
            remedy: "make the hot window smaller; Redis and Kafka hold what is older")
    }

    /// Settings that hurt a Redis on this machine; of no interest where it runs elsewhere.
    private static func redisHost(_ facts: MachineFacts, _ configuration: Configuration)
        -> [Finding]
    {
        guard configuration.redis.endpoint.isOnThisMachine else { return [] }
        var findings: [Finding] = []
        if facts.overcommit == 0 {
            findings.append(
                Finding(
                    .note, .machine, "vm.overcommit_memory is 0",
                    consequence: "the Redis on this machine may fail to save in the background",
                    remedy: "sysctl -w vm.overcommit_memory=1"))
        }
        if facts.hugePages == "always" {
            findings.append(
                Finding(
                    .note, .machine, "transparent huge pages are always on",
                    consequence: "the Redis on this machine stalls and grows while it saves",
                    remedy: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"))
        }
        return findings
    }
}
