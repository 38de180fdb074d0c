// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

// Sends every message of a WebSocket back: what conformance suites such as Autobahn talk to. It
// stands on the same listener, reader and writer as `/ws`, with limits as wide as such suites need.
//
//     swift run -c release WebSocketEcho 127.0.0.1:9001

import Glibc
import HTTPServer
import Observability
import PosixIO
import Reactor
import WebSocketWire

/// Listens until it is killed.
@main
enum Program {
    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 1, let text = arguments.first,
            let colon = text.lastIndex(of: ":"),
            let port = UInt16(text[text.index(after: colon)...])
        else {
            print("usage: WebSocketEcho HOST:PORT")
            return
        }
        do {
            let addresses = try SocketAddress.resolve(host: String(text[..<colon]), port: port)
            let loop = try EventLoop(name: "echo")
            let echo = Echo()
            let listener = HTTPListener(
                loop: loop, address: addresses[0], settings: HTTPServerSettings(), handler: echo,
                metrics: HTTPServerMetrics(MetricsRegistry()), admission: nil,
                log: Logger("echo", lowest: .warning))
            let bound = LoopBound((listener, echo), on: loop)
            let failure = Lock<String?>(nil)
            loop.start()
            loop.post {
                do throws(HTTPServerError) {
                    try bound.value.0.start()
                    print("listening on \(text)")
                } catch { failure.withLock { $0 = error.detail } }
            }
            while failure.withLock({ $0 }) == nil { poll(nil, 0, 100) }
            print("cannot listen: \(failure.withLock { $0 } ?? "")")
        } catch { print("cannot start: \(error)") }
    }
}

/// The sockets of the one loop.
private final class Echo: HTTPRequestHandler, ByteStreamObserver {
    private var sessions: [Int: EchoSession] = [:]
    private var nextKey = 1

    func handle(_ request: HTTPRequest, _ exchange: HTTPExchange) {
        let upgraded = exchange.upgradeToWebSocket(request, deflates: true, observer: self)
        guard let upgraded else { return }
        upgraded.stream.context = nextKey
        sessions[nextKey] = EchoSession(upgraded)
        nextKey += 1
    }

    func stream(_ stream: ByteStream, received bytes: borrowing Span<UInt8>) {
        sessions[stream.context]?.receive(bytes)
    }

    func streamIsWritable(_ stream: ByteStream) { sessions[stream.context]?.flush() }

    func streamEnded(_ stream: ByteStream, _ reason: StreamEnd) {
        sessions[stream.context] = nil
    }
}
