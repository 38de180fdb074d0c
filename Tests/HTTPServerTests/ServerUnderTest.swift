// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import HTTP1Wire
import HTTPServer
import Observability
import PosixIO
import Reactor
import TLSEngine
import Testing

/// All tests of this target, one at a time: one of them counts the descriptors of the process.
@Suite("HTTP server", .serialized)
enum HTTPServerTests {}

/// Listeners on loops of their own, and a handler whose paths do what tests need.
final class ServerUnderTest: Sendable {
    let address: SocketAddress
    let registry = MetricsRegistry()
    let record = Lock(Record())
    private let loops: [EventLoop]
    private let shards: [LoopBound<Shard>]

    /// What the handlers of all loops have seen.
    struct Record {
        var requests: [String] = []
        var requestsPerLoop: [Int: Int] = [:]
        var ended: [StreamEnd] = []
        var writableCalls = 0
        /// What peers of upgraded streams have sent.
        var received: [UInt8] = []
    }

    /// What lives on one loop.
    final class Shard {
        let listener: HTTPListener
        let handler: PathHandler

        init(_ listener: HTTPListener, _ handler: PathHandler) {
            self.listener = listener
            self.handler = handler
        }
    }

    init(
        loops count: Int = 1, budget: ConnectionBudget? = nil, tls: TLSServer? = nil,
        _ configure: (inout HTTPServerSettings) -> Void = { _ in }
    ) throws {
        var settings = HTTPServerSettings()
        settings.sweepInterval = .milliseconds(10)
        configure(&settings)
        let metrics = HTTPServerMetrics(registry)
        let registry = registry
        let encryption = tls.map { server in
            HTTPListener.Encryption(server, TLSServerMetrics(registry, server: server))
        }
        let log = Logger("http", sink: { _ in })
        var loops: [EventLoop] = []
        var shards: [LoopBound<Shard>] = []
        var address = SocketAddress.loopback(port: 0)
        for index in 0..<count {
            let loop = try EventLoop(name: "http-\(index)")
            let handler = PathHandler(index: index, record: record)
            let listener = HTTPListener(
                loop: loop, address: address, settings: settings, handler: handler,
                metrics: metrics, admission: budget, encryption: encryption, log: log)
            let shard = LoopBound(Shard(listener, handler), on: loop)
            loop.start()
            address = try Self.run(on: loop, shard) { shard in
                try shard.listener.start()
                return shard.listener.localAddress!
            }
            loops.append(loop)
            shards.append(shard)
        }
        self.loops = loops
        self.shards = shards
        self.address = address
    }

    /// Runs `body` on a loop and waits for its result.
    func onLoop<Result: Sendable>(
        _ index: Int = 0, _ body: @escaping @Sendable (Shard) throws -> Result
    ) throws -> Result {
        try Self.run(on: loops[index], shards[index], body)
    }

    private static func run<Result: Sendable>(
        on loop: EventLoop, _ shard: LoopBound<Shard>,
        _ body: @escaping @Sendable (Shard) throws -> Result
    ) throws -> Result {
        let outcome = Lock<Swift.Result<Result, any Error>?>(nil)
        loop.post {
            let result = Swift.Result { try body(shard.value) }
            outcome.withLock { $0 = result }
        }
        guard eventually({ outcome.withLock { $0 != nil } }) else { throw Errno(ETIMEDOUT) }
        return try outcome.withLock { try $0!.get() }
    }

    func stop() {
        for index in loops.indices {
            _ = try? onLoop(index) { $0.listener.stop() }
            loops[index].stop()
            #expect(loops[index].join(within: .seconds(10)))
        }
    }

    func client(receiveBufferBytes: CInt? = nil) throws -> LoopbackClient {
        try LoopbackClient(address, receiveBufferBytes: receiveBufferBytes)
    }

    /// The value of one metric, by the beginning of its line.
    func metric(_ series: String) -> Double {
        let lines = registry.render().split(separator: "\n")
        let line = lines.first { $0.hasPrefix(series + " ") }
        return line.flatMap { $0.split(separator: " ").last }.flatMap { Double($0) } ?? -1
    }
}

/// Waits for `condition`; false where it does not come true within ten seconds.
func eventually(_ condition: () -> Bool) -> Bool {
    let deadline = MonotonicTime.now + .seconds(10)
    while !condition() {
        guard MonotonicTime.now < deadline else { return false }
        _ = poll(nil, 0, 1)
    }
    return true
}

/// Answers by path: `/echo`, `/size/N`, `/later`, `/drop`, `/none`, `/stream`, `/finite`, and
/// `/upgrade`, which gives every byte back and finishes after a zero.
final class PathHandler: HTTPRequestHandler, ByteStreamObserver {
    var waiting: [HTTPExchange] = []
    var streams: [ByteStream] = []
    var endedStreams = 0
    /// What each call of `streamIsWritable` does.
    var whenWritable: ((ByteStream) -> Void)?
    private let index: Int
    private let record: Lock<ServerUnderTest.Record>

    init(index: Int, record: Lock<ServerUnderTest.Record>) {
        self.index = index
        self.record = record
    }

    func handle(_ request: HTTPRequest, _ exchange: HTTPExchange) {
        let path = request.head.path
        record.withLock {
            $0.requests.append("\(request.head.method) \(path)")
            $0.requestsPerLoop[index, default: 0] += 1
        }
        if path.hasPrefix("/size/"), let size = Int(path.dropFirst(6)) {
            return exchange.respond(status: 200, body: pattern(size))
        }
        switch path {
        case "/later": waiting.append(exchange)
        case "/drop": break
        case "/fields":
            let cookie = request.head.headers.first("cookie") ?? ""
            let text = "\(request.head.authority)|\(cookie)"
            exchange.respond(status: 200, body: Array(text.utf8))
        case "/none": exchange.respond(status: 204)
        case "/hostile":
            let value = String(decoding: request.body, as: UTF8.self)
            exchange.respond(status: 200, headers: [("X-Given", value)])
        case "/upgrade":
            let upgraded = exchange.upgradeToWebSocket(request, deflates: true, observer: self)
            guard let stream = upgraded?.stream else { break }
            stream.context = streams.count
            streams.append(stream)
        case "/finite":
            let stream = exchange.openStream(headers: [], observer: self)
            #expect(stream?.write(Array("all of it".utf8)) == .all)
            stream?.finish()
        case "/stream":
            let stream = exchange.openStream(
                headers: [("Content-Type", "text/event-stream")], observer: self)
            if let stream {
                stream.context = streams.count
                streams.append(stream)
            }
        default:
            let text =
                "\(request.head.method) \(path)|" + String(decoding: request.body, as: UTF8.self)
            exchange.respond(
                status: 200, headers: [("Content-Type", "text/plain")], body: Array(text.utf8))
        }
    }

    func stream(_ stream: ByteStream, received bytes: borrowing Span<UInt8>) {
        let received = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
        record.withLock { $0.received += received }
        if stream.write(received) != .all { stream.abort() }
        if received.contains(0) { stream.finish() }
    }

    func streamIsWritable(_ stream: ByteStream) {
        record.withLock { $0.writableCalls += 1 }
        whenWritable?(stream)
    }

    func streamEnded(_ stream: ByteStream, _ reason: StreamEnd) {
        endedStreams += 1
        record.withLock { $0.ended.append(reason) }
    }
}

/// Bytes that show where they are, so that a lost or repeated one does not go unseen.
func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    (start..<start + count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
