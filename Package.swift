// swift-tools-version: 6.3
//
// Copyright the Rivulet authors.
// Licensed under the Apache License, Version 2.0. See LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// A C library of the system, found through its Debian `-dev` package.
func system(_ name: String, pkgConfig: String?, apt package: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([package])])
}

/// A target with its tests beside it, so that no room is built without a place to check it.
func room(_ name: String, on floor: [Target.Dependency] = [], tests: [Target.Dependency] = [])
    -> [Target]
{
    [
        .target(name: name, dependencies: floor),
        .testTarget(
            name: "\(name)Tests",
            dependencies: [.init(stringLiteral: name)] + floor + tests
        ),
    ]
}

// The floors of docs/internals/ARCHITECTURE.md, lowest first. An arrow goes only down.
let cLibraries: [Target] = [
    .target(name: "CLinux"),
    system("CRdKafka", pkgConfig: "rdkafka", apt: "librdkafka-dev"),
    // No pkgConfig: hiredis' file carries a -D flag that SwiftPM refuses with a warning.
    system("CHiredis", pkgConfig: nil, apt: "libhiredis-dev"),
    system("COpenSSL", pkgConfig: "openssl", apt: "libssl-dev"),
    system("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev"),
    // Debian ships no pkg-config file for wslay.
    system("CWslay", pkgConfig: nil, apt: "libwslay-dev"),
    system("CNghttp2", pkgConfig: "libnghttp2", apt: "libnghttp2-dev"),
    system("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
    system("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
    .target(name: "CSimdJSON", linkerSettings: [.linkedLibrary("simdjson")]),
    // What the benchmarks compare with.
    .target(
        name: "CBenchFloor",
        linkerSettings: [.linkedLibrary("rdkafka"), .linkedLibrary("z"), .linkedLibrary("zstd")]),
    // Linked into the benchmarks alone.
    .target(name: "CAllocationCount"),
]

let ground: [Target] =
    room("Bytes")
    + room("PosixIO", on: ["Bytes", "CLinux"])
    + room("Observability", on: ["PosixIO"])
    + room("Dependability", on: ["PosixIO", "Observability"])

let pureWire: [Target] =
    room("HTTP1Wire", on: ["Bytes"], tests: ["FuzzHTTP1"])
    + room("EventStreamWire", on: ["Bytes"])
    + room("JSONFields", on: ["Bytes", "CSimdJSON"])
    + room("Compression", on: ["Bytes", "CZlib", "CZstd"], tests: ["BrokerTestKit"])
    + room("NodeConfiguration", on: ["Bytes", "CYAML"])
    + room("WebSocketWire", on: ["Bytes", "CWslay", "COpenSSL", "CZlib"])

let drivers: [Target] =
    room("Reactor", on: ["Bytes", "PosixIO", "Observability", "CLinux"])
    + room(
        "HTTP2Wire",
        on: ["Bytes", "PosixIO", "HTTP1Wire", "CLinux", "CNghttp2"],
        tests: ["HTTP2TestKit"]
    )
    + room("TLSEngine", on: ["PosixIO", "CLinux", "COpenSSL"], tests: ["BrokerTestKit"])
    + room("KafkaClient", on: ["Bytes", "PosixIO", "Observability", "CRdKafka"])
    + room(
        "RedisClient",
        on: [
            "Bytes", "PosixIO", "Observability", "Dependability", "Reactor", "TLSEngine",
            "CHiredis",
        ],
        tests: ["BrokerTestKit"]
    )

let server: [Target] = room(
    "HTTPServer",
    on: [
        "Bytes", "PosixIO", "Observability", "Reactor", "HTTP1Wire", "HTTP2Wire", "WebSocketWire",
        "TLSEngine", "CLinux",
    ],
    tests: ["BrokerTestKit", "HTTP2TestKit"]
)

let domain: [Target] =
    room(
        "BrokerCore",
        on: [
            "Bytes", "PosixIO", "Observability", "EventStreamWire", "JSONFields",
            "NodeConfiguration", "Reactor", "WebSocketWire", "CLinux", "Compression",
        ],
        tests: ["BrokerTestKit"]
    )
    + room(
        "History",
        on: [
            "Bytes", "PosixIO", "Observability", "EventStreamWire", "JSONFields", "Reactor",
            "KafkaClient", "RedisClient", "BrokerCore",
        ],
        tests: ["BrokerTestKit"]
    )
    + room(
        "Coordination",
        on: ["Bytes", "PosixIO", "Observability", "Reactor", "KafkaClient", "RedisClient"],
        tests: ["BrokerTestKit"]
    )

let composition: [Target] =
    room("TrafficScene", on: ["Bytes"], tests: ["JSONFields"])
    + room(
        "LoadGenerator",
        on: ["Bytes", "PosixIO", "Observability", "EventStreamWire", "KafkaClient", "CLinux"]
    )
    + room(
        "Verification",
        on: ["Bytes", "EventStreamWire", "JSONFields", "NodeConfiguration"]
    )
    + room(
        "BrokerNode",
        on: [
            "Bytes", "PosixIO", "Observability", "EventStreamWire", "JSONFields", "HTTP1Wire",
            "NodeConfiguration", "Reactor", "TLSEngine", "KafkaClient", "RedisClient",
            "HTTPServer", "BrokerCore", "History", "Coordination", "Dependability", "CLinux",
            "Compression",
        ],
        tests: ["BrokerTestKit", "ClusterHarness", "WebSocketWire"]
    )

let programs: [Target] = [
    .executableTarget(
        name: "rivulet",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "HTTP1Wire", "EventStreamWire", "JSONFields",
            "NodeConfiguration", "Reactor", "KafkaClient", "RedisClient", "BrokerNode",
            "TrafficScene", "Verification", "LoadGenerator", "CLinux",
        ]
    ),
    .testTarget(
        name: "RivuletProgramTests",
        dependencies: [
            "rivulet", "Bytes", "PosixIO", "Observability", "EventStreamWire", "HTTP1Wire",
            "NodeConfiguration", "KafkaClient", "RedisClient", "TrafficScene", "BrokerTestKit",
            "CLinux",
        ]
    ),
    .executableTarget(
        name: "Benchmarks",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "EventStreamWire", "NodeConfiguration", "Reactor",
            "TLSEngine", "KafkaClient", "RedisClient", "History", "BrokerNode", "BrokerTestKit",
            "ClusterHarness", "CLinux", "CBenchFloor", "CAllocationCount",
        ]
    ),
    .testTarget(
        name: "BenchmarksTests",
        dependencies: ["Benchmarks", "Bytes", "PosixIO", "Observability"]),
]

let testOnly: [Target] = [
    .executableTarget(name: "FuzzHTTP1", dependencies: ["Bytes", "HTTP1Wire"]),
    .executableTarget(
        name: "WebSocketEcho",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "Reactor", "WebSocketWire", "HTTPServer",
        ]
    ),
    .target(name: "HTTP2TestKit", dependencies: ["CNghttp2"]),
    .target(
        name: "BrokerTestKit",
        dependencies: ["Bytes", "PosixIO", "Observability", "Reactor", "CZlib", "CZstd", "CLinux"]
    ),
    .target(
        name: "ClusterHarness",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "HTTP1Wire", "EventStreamWire", "KafkaClient",
            "BrokerTestKit",
        ]
    ),
    .testTarget(
        name: "ClusterTests",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "HTTP1Wire", "EventStreamWire", "KafkaClient",
            "BrokerTestKit", "ClusterHarness",
        ]
    ),
    .target(
        name: "HistorySimulation",
        dependencies: [
            "Bytes", "EventStreamWire", "JSONFields", "BrokerCore", "History", "KafkaClient",
            "NodeConfiguration",
        ]
    ),
    .testTarget(
        name: "HistorySimulationTests",
        dependencies: [
            "Bytes", "PosixIO", "Observability", "Reactor", "EventStreamWire", "History",
            "RedisClient", "BrokerTestKit", "HistorySimulation",
        ]
    ),
    .testTarget(name: "TidyTests"),
]

/// Swift's settings for every target: strict by the compiler, not by convention.
let everySetting: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    // Views (`Span`, readers over it) are returned with the lifetime of what they look at.
    .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
    name: "rivulet",
    targets: cLibraries + ground + pureWire + drivers + server + domain + composition + programs
        + testOnly,
    cxxLanguageStandard: .cxx17
)

let namesOfC = Set(cLibraries.map(\.name))
for target in package.targets where !namesOfC.contains(target.name) {
    target.swiftSettings = everySetting
}

// A build with a sanitizer tests a few rooms, and a good part of it would be spent on the others.
// `RIVULET_TESTED_ROOMS=Bytes,Reactor` leaves the tests of these and what they stand on.
if let rooms = Context.environment["RIVULET_TESTED_ROOMS"] {
    let byName = Dictionary(uniqueKeysWithValues: package.targets.map { ($0.name, $0) })
    var wanted: Set<String> = []
    var open = rooms.split(separator: ",").map { "\($0)Tests" }
    while let name = open.popLast() {
        guard let target = byName[name] else { fatalError("no target is called \(name)") }
        guard wanted.insert(name).inserted else { continue }
        for dependency in target.dependencies {
            guard case .byNameItem(let below, _) = dependency else { continue }
            open.append(below)
        }
    }
    package.targets.removeAll { !wanted.contains($0.name) }
}
