// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import KafkaClient
import NodeConfiguration
import RedisClient
import Testing

@testable import rivulet

@Suite("What the doctor makes of facts")
struct DoctorRulesTests {
    private func worst(_ findings: [Finding], about words: String) -> Finding.Severity? {
        findings.filter { $0.found.contains(words) }.map(\.severity).max()
    }

    // MARK: - Machine

    private var machine: MachineFacts {
        var facts = MachineFacts()
        facts.descriptorsHard = 1_048_576
        facts.acceptQueueMax = 4096
        facts.localPorts = 1024...65_535
        facts.processors = 4
        facts.memoryBytes = 8 << 30
        facts.overcommit = 1
        facts.hugePages = "madvise"
        return facts
    }

    @Test("a machine that was set up for many connections has nothing that hurts")
    func goodMachine() {
        let findings = MachineRules.findings(machine, Configuration())
        #expect(findings.count == 4)
        #expect(findings.allSatisfy { $0.severity == .ok && $0.remedy.isEmpty })
    }

    @Test("few descriptors, a short accept queue, few ports and little memory are warnings")
    func poorMachine() {
        var facts = machine
        facts.descriptorsHard = 1024
        facts.acceptQueueMax = 128
        facts.localPorts = 60_000...60_999
        facts.memoryBytes = 128 << 20
        let findings = MachineRules.findings(facts, Configuration())
        #expect(findings.map(\.severity) == [.warning, .warning, .warning, .warning])
        #expect(findings.allSatisfy { !$0.consequence.isEmpty && !$0.remedy.isEmpty })
    }

    @Test("more connections than descriptors are said, whatever the machine")
    func connectionsBeyondDescriptors() {
        var facts = machine
        facts.descriptorsHard = 20_000
        var configuration = Configuration()
        configuration.limits.connections = 19_000
        #expect(
            worst(MachineRules.findings(facts, configuration), about: "20,000 descriptors") == .ok)
        configuration.limits.connections = 19_990
        #expect(
            worst(MachineRules.findings(facts, configuration), about: "20,000 descriptors")
                == .warning)
    }

    @Test("settings that hurt Redis are of interest only where Redis is on this machine")
    func redisHost() {
        var facts = machine
        facts.overcommit = 0
        facts.hugePages = "always"
        var configuration = Configuration()
        #expect(MachineRules.findings(facts, configuration).count { $0.severity == .note } == 2)
        configuration.redis.url = "redis://redis.internal:6379"
        #expect(MachineRules.findings(facts, configuration).allSatisfy { $0.severity == .ok })
    }

    @Test("what the kernel says is read, and what it does not say stays unknown")
    func kernelTexts() {
        #expect(MachineFacts.portRange("32768\t60999") == 32768...60999)
        #expect(MachineFacts.portRange("60999 32768") == nil)
        #expect(MachineFacts.portRange("many") == nil)
        #expect(MachineFacts.totalMemory("MemTotal:  1024 kB\nMemFree: 1 kB") == 1 << 20)
        #expect(MachineFacts.totalMemory("MemTotal: 99999999999999999999 kB") == nil)
        #expect(MachineFacts.totalMemory("") == nil)
        #expect(MachineFacts.chosenWord("always [madvise] never") == "madvise")
        #expect(MachineFacts.chosenWord("] [") == nil)
        #expect(MachineFacts.read().descriptorsHard > 0)
    }

    // MARK: - Redis

    private var redis: RedisFacts {
        var facts = RedisFacts()
        facts.info = [
            "redis_version": "7.0.15", "role": "master", "connected_slaves": "1",
            "used_memory": "1000000", "rdb_last_bgsave_status": "ok",
        ]
        facts.settings = [
            "maxmemory": "100000000", "maxmemory-policy": "noeviction", "appendonly": "yes",
            "appendfsync": "everysec", "save": "",
            "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60",
        ]
        facts.clockUncertaintyMilliseconds = 1
        return facts
    }

    @Test("a Redis that keeps history well has nothing that hurts")
    func goodRedis() {
        #expect(
            RedisRules.findings(redis, Configuration()).filter { $0.severity > .ok }.isEmpty)
    }

    @Test(
        "what makes Redis lose history is found, with what to do",
        arguments: [
            ("maxmemory-policy", "allkeys-lru", "allkeys-lru", Finding.Severity.danger),
            ("maxmemory", "0", "maxmemory is not set", .warning),
            ("maxmemory", "1100000", "used", .warning),
            ("appendonly", "no", "no persistence", .note),
            ("client-output-buffer-limit", "normal 1048576 0 0", "1048576", .warning),
            ("timeout", "5", "timeout is 5", .warning),
        ])
    func badSetting(_ name: String, _ value: String, _ words: String, _ expected: Finding.Severity)
    {
        var facts = redis
        facts.settings?[name] = value
        let findings = RedisRules.findings(facts, Configuration())
        #expect(worst(findings, about: words) == expected)
        for finding in findings where finding.severity > .ok {
            #expect(!finding.consequence.isEmpty && !finding.remedy.isEmpty)
        }
    }

    @Test(
        "a replica, an old version and a failed save keep the node from working",
        arguments: [
            ("role", "slave"), ("redis_version", "6.0.16"), ("rdb_last_bgsave_status", "err"),
        ])
    func badState(_ name: String, _ value: String) {
        var facts = redis
        facts.info[name] = value
        #expect(worst(RedisRules.findings(facts, Configuration()), about: value) == .danger)
    }

    @Test("a Redis that hides its settings is noted, not blamed")
    func hiddenSettings() {
        var facts = redis
        facts.settings = nil
        let findings = RedisRules.findings(facts, Configuration())
        #expect(worst(findings, about: "cannot be read") == .note)
        // INFO says less, and still whether memory has a bound.
        #expect(worst(findings, about: "maxmemory is not set") == .warning)
    }

    @Test("a clock counts as off only beyond what the question itself took")
    func clock() {
        var facts = redis
        facts.clockAheadMilliseconds = -2000
        facts.clockUncertaintyMilliseconds = 1600
        #expect(worst(RedisRules.findings(facts, Configuration()), about: "behind") == .ok)
        facts.clockUncertaintyMilliseconds = 10
        #expect(worst(RedisRules.findings(facts, Configuration()), about: "behind") == .warning)
    }

    @Test("INFO and CONFIG GET are read, whatever else they hold")
    func replies() {
        let info = RedisFacts.fields(ofInfo: "# Server\r\nredis_version:7.2.4\r\n\r\nodd\r\na:b:c")
        #expect(info == ["redis_version": "7.2.4", "a": "b:c"])
        let reply = RedisReply.array([
            .bulk(Array("maxmemory".utf8)), .bulk(Array("0".utf8)), .bulk(Array("odd".utf8)),
        ])
        #expect(RedisFacts.settings(ofReply: reply) == ["maxmemory": "0"])
        #expect(RedisFacts.settings(ofReply: .null) == nil)
    }

    // MARK: - Kafka

    private var configuration: Configuration {
        var configuration = Configuration()
        configuration.channels = [
            ChannelConfiguration(name: "orders", topics: ["shop.orders"], event: .fixed("order"))
        ]
        return configuration
    }

    private func kafka(_ settings: [String: String]?) -> KafkaFacts {
        var facts = KafkaFacts()
        facts.libraryVersion = "2.12.0"
        facts.libraryNumber = 0x020c_00ff
        facts.partitions = [
            "shop.orders": 12, "rivulet.dead-letter": 1, "rivulet.canary": 1,
        ]
        facts.topicSettings = settings.map { ["shop.orders": $0] }
        facts.settingsRefusal = "not supported"
        return facts
    }

    @Test("Kafka that keeps records as long as the index has nothing that hurts")
    func goodKafka() {
        for kept in ["604800000", "-1"] {
            let findings = KafkaRules.findings(
                kafka(["retention.ms": kept, "cleanup.policy": "delete"]), configuration, nodes: 3)
            #expect(findings.allSatisfy { $0.severity == .ok }, "\(findings)")
        }
    }

    @Test("retention below the index, compaction and larger records are told apart")
    func retention() {
        let findings = KafkaRules.findings(
            kafka([
                "retention.ms": "3600000", "cleanup.policy": "compact,delete",
                "max.message.bytes": "\(10 << 20)",
            ]), configuration, nodes: 3)
        #expect(worst(findings, about: "for 1h") == .warning)
        #expect(worst(findings, about: "compacted") == .note)
        #expect(worst(findings, about: "10 MiB") == .note)
    }

    @Test("missing topics, too few partitions, an old library and a long session are found")
    func badKafka() {
        var facts = kafka(nil)
        facts.libraryVersion = "2.0.2"
        facts.libraryNumber = 0x0200_02ff
        facts.partitions = ["shop.orders": 1]
        var configuration = configuration
        configuration.channels[0].topics.append("shop.refunds")
        configuration.kafka.sessionTimeout = .seconds(45)
        let findings = KafkaRules.findings(facts, configuration, nodes: 3)
        #expect(worst(findings, about: "shop.refunds") == .note)
        #expect(worst(findings, about: "dead-letter") == .warning)
        #expect(worst(findings, about: "canaries") == .warning)
        #expect(worst(findings, about: "1 partition") == .warning)
        #expect(worst(findings, about: "librdkafka 2.0.2") == .note)
        #expect(worst(findings, about: "session_timeout is 45s") == .warning)
        #expect(worst(findings, about: "not supported") == .note)
    }

    // MARK: - Configuration and nodes

    @Test("the heartbeat has two chances before the balancer cuts")
    func heartbeat() {
        var configuration = Configuration()
        func severity(_ seconds: Int) -> Finding.Severity? {
            configuration.server.heartbeat = .seconds(seconds)
            return worst(
                ConfigurationRules.findings(configuration, balancerTimeout: .seconds(60)),
                about: "heartbeat")
        }
        #expect(severity(30) == .ok)
        #expect(severity(31) == .warning)
        #expect(severity(60) == .danger)
    }

    @Test("who listens in the open, and who only for this machine, is noted")
    func listening() {
        var configuration = Configuration()
        func found() -> Finding {
            ConfigurationRules.findings(configuration, balancerTimeout: .seconds(60))[1]
        }
        #expect(found().consequence.contains("only this machine"))
        configuration.server.listen = ["0.0.0.0:8080"]
        #expect(found().consequence.contains("TLS"))
        configuration.server.listen = ["127.0.0.1:8080"]
        configuration.server.tlsListen = ["0.0.0.0:8443"]
        #expect(found().severity == .ok)
    }

    @Test("a node that is not ready, or whose clock is off, is found")
    func nodes() {
        var facts = NodeFacts(url: "http://node-1:8080/readyz")
        facts.status = 200
        facts.clockAheadSeconds = 2
        #expect(NodeRules.findings([facts]).map(\.severity) == [.ok])
        facts.clockAheadSeconds = -3
        #expect(NodeRules.findings([facts]).map(\.severity) == [.ok, .warning])
        facts.status = 503
        #expect(NodeRules.findings([facts]).map(\.severity) == [.danger, .warning])
        #expect(NodeFacts.seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777)
        #expect(NodeFacts.seconds("yesterday") == nil)
    }

    @Test("the report has the worst first, and JSON has everything")
    func showing() {
        let findings = [
            Finding(.ok, .redis, "fine"),
            Finding(.danger, .redis, "bad", consequence: "it hurts", remedy: "mend it"),
            Finding(.note, .machine, "odd"),
        ]
        let text = DoctorCommand.report(findings, style: TerminalStyle(isColoured: false))
        #expect(
            text == """
                machine
                  note     odd
                redis
                  danger   bad
                           it hurts
                           -> mend it
                  ok       fine

                """)
        #expect(DoctorCommand.summary(findings) == "1 danger, 1 note")
        #expect(DoctorCommand.summary([findings[0]]) == "nothing that hurts")
        #expect(DoctorCommand.json(findings).contains(#""remedy":"mend it""#))
        #expect(Tabulation.bytes(1536) == "1.5 KiB")
        #expect(Tabulation.bytes(999) == "999 B")
    }
}

@Suite("The program doctor", .timeLimit(.minutes(2)))
struct DoctorProgramTests {
    @Test("it examines a real Redis and Kafka, and says what will hurt")
    func real() throws {
        let redis = try RedisServerProcess(arguments: [
            "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
        ])
        let kafka = try DevelopmentKafka("--brokers", "1", "--channels")
        let doctor = try Child.run(
            ["doctor", "--json", "-b", kafka.servers, "--timeout", "20s"],
            environment: ["RIVULET_REDIS_URL=redis://127.0.0.1:\(redis.port)"])
        #expect(doctor.exit() == 1, "\(doctor.errors)")
        #expect(doctor.output.contains(#""severity":"danger","subject":"redis""#))
        #expect(doctor.output.contains("allkeys-lru"))
        #expect(doctor.output.contains("librdkafka"))
        #expect(doctor.output.contains("this machine's"))
        // The embedded broker describes no topics, and that is said.
        #expect(doctor.output.contains("topic settings cannot be read"))
    }

    @Test("servers that are away are findings, not failures of its own")
    func away() throws {
        let port = try #require(FreePort.choose())
        let doctor = try Child.run(
            ["doctor", "-b", "127.0.0.1:\(port)", "-n", "127.0.0.1:\(port)", "--timeout", "500ms"],
            environment: ["RIVULET_REDIS_URL=redis://127.0.0.1:\(port)"])
        #expect(doctor.exit() == 1)
        for words in ["Redis cannot be asked", "Kafka cannot be asked", "does not answer"] {
            #expect(doctor.output.contains(words), "\(doctor.output)")
        }
    }

    @Test("a wrong command line is refused")
    func refusals() throws {
        let doctor = try Child.run(["doctor", "--nodes", "0"])
        #expect(doctor.exit() == 64)
        #expect(doctor.errors.contains("--nodes"))
    }
}
