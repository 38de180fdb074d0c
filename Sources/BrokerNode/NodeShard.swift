// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
package import CLinux
import Compression
import EventStreamWire
import HTTP1Wire
package import HTTPServer
import JSONFields
import NodeConfiguration
import Observability
import PosixIO
import Reactor

extension ByteStream: EventSink {
    /// The hub's view of a stream; see ``EventSink/write(_:)``.
    package func write(_ pieces: UnsafeBufferPointer<iovec>) -> SinkWrite {
        let outcome: ByteStreamWrite = unsafe write(pieces)
        switch outcome {
        case .all: return .all
        case .some(let count): return .some(count)
        case .ended: return .ended
        }
    }
}

/// What one event loop serves: its listeners, its hub, and the requests that come in between.
///
/// View: shard. Threads: its loop's, but for the initialiser.
final class NodeShard: HTTPRequestHandler, ByteStreamObserver {
    let loop: EventLoop
    private let context: NodeContext
    private(set) var listeners: [HTTPListener] = []
    /// `nil` until the tail has found its place in history.
    private(set) var hub: Hub?
    private var webSockets: NodeWebSockets?
    /// Those who hold places or have rates, by their streams.
    private var admitted: [ObjectIdentifier: Admitted] = [:]

    init(loop: EventLoop, context: NodeContext) {
        self.loop = loop
        self.context = context
    }

    /// Listens on each of `wanted`. Returns the same with the addresses that they came to.
    func listen(on wanted: [ListenAddress]) throws(HTTPServerError) -> [ListenAddress] {
        var bound: [ListenAddress] = []
        for address in wanted {
            let listener = HTTPListener(
                loop: loop, address: address.address, settings: context.httpSettings,
                handler: self, metrics: context.httpMetrics, admission: context.budget,
                encryption: address.speaksTLS ? context.tls?.encryption : nil,
                log: context.log.named("http"))
            try listener.start()
            listeners.append(listener)
            bound.append(
                ListenAddress(
                    listener.localAddress ?? address.address, speaksTLS: address.speaksTLS))
        }
        return bound
    }

    /// The node has its place in history: streams can be served from here on.
    func begin(after tip: EventID, replay: any HistorySource) {
        guard hub == nil, let reader = clientMessageReader() else { return }
        let hub = Hub(
            loop: loop, settings: context.hubSettings, replay: replay, startingAfter: tip,
            gaps: context.gapMetrics)
        self.hub = hub
        context.register(hub.metrics, loop: loop.name)
        hub.start()
        let server = context.configuration.server
        let limits = context.limits
        let webSockets = NodeWebSockets(
            .init(
                loop: loop, hub: hub, directory: context.directory, reader: reader,
                metrics: context.webSocketMetrics, heartbeat: server.heartbeat,
                stuckAfter: server.stuckTimeout),
            // The same deflate that gzip holds.
            deflates: context.codings.contains(.gzip), whenGone: { limits.release($0) })
        self.webSockets = webSockets
        webSockets.start()
    }

    /// `nil` where there is no memory for it, so that the node stays not ready and says why.
    private func clientMessageReader() -> ClientMessageReader? {
        do throws(JSONFieldsError) {
            return try ClientMessageReader()
        } catch {
            context.log.error("cannot serve", LogField("error", error))
            return nil
        }
    }

    /// Tells clients that this node will stop, and goes on answering.
    func announceDrain() { for listener in listeners { listener.announceDrain() } }

    /// Streams and WebSockets that have not been told to go.
    var clientCount: Int { (hub?.wholeConnectionCount ?? 0) + (webSockets?.count ?? 0) }

    /// Sends up to `count` clients away with a `retry:`. Returns how many it were.
    func sendAway(_ count: Int, because departure: Hub.Departure) -> Int {
        guard let hub, count > 0 else { return 0 }
        let gone = hub.sendAway(count, because: departure)
        let milliseconds = departure == .move ? hub.moveMilliseconds() : nil
        return gone + (webSockets?.sendAway(count - gone, after: milliseconds) ?? 0)
    }

    /// Listens no longer, and closes what waits for nothing.
    func stopAccepting() {
        for listener in listeners {
            listener.stopAccepting()
            listener.closeIdleConnections()
        }
    }

    var connectionCount: Int { listeners.reduce(0) { $0 + $1.connectionCount } }

    func stop() {
        hub?.stop()
        webSockets?.stop()
        for listener in listeners { listener.stop() }
    }

    // MARK: - Streams

    func streamIsWritable(_ stream: ByteStream) {
        hub?.sinkIsWritable(.init(packed: UInt64(bitPattern: Int64(stream.context))))
    }

    func streamEnded(_ stream: ByteStream, _ reason: StreamEnd) {
        hub?.sinkEnded(.init(packed: UInt64(bitPattern: Int64(stream.context))))
        guard !admitted.isEmpty else { return }
        if let gone = admitted.removeValue(forKey: ObjectIdentifier(stream)) {
            context.limits.release(gone)
        }
    }

    private static let streamHeaders = [
        ("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
    ]

    /// Why nobody can subscribe at the moment, or `nil`.
    private var obstacle: ProblemDetails? {
        guard hub != nil else {
            return ProblemDetails(
                status: 503, title: "Not ready",
                detail: "The node waits for Redis to find its place in history.")
        }
        guard context.status.phase != .draining else {
            return ProblemDetails(
                status: 503, title: "Draining", detail: "This node is about to stop.")
        }
        return nil
    }

    private func openStream(
        _ request: HTTPRequest, _ exchange: HTTPExchange, _ subscription: Subscription,
        over span: StreamSpan, asking rate: Int?
    ) {
        if let obstacle { return exchange.respond(obstacle, headers: [("Retry-After", "1")]) }
        guard let hub else { return }
        guard !span.hasEnded else {
            // A browser that was told the end comes back all the same; this makes it stay away
            // (WHATWG HTML, section 9.2.3).
            return exchange.respond(status: 204, headers: [("Cache-Control", "no-store")])
        }
        context.limits.admit(request, exchange, asking: rate, on: loop) { [weak self] admitted in
            self?.openStream(request, exchange, subscription, over: span, hub, admitted)
        }
    }

    private func openStream(
        _ request: HTTPRequest, _ exchange: HTTPExchange, _ subscription: Subscription,
        over span: StreamSpan, _ hub: Hub, _ admitted: Admitted
    ) {
        var headers = Self.streamHeaders
        var form = StreamForm.plain
        if !context.codings.isEmpty {
            headers.append(("Vary", "Accept-Encoding"))
            let accepted = request.head.headers.all("Accept-Encoding").joined(separator: ",")
            if let coding = ContentCoding.choose(accepting: accepted, among: context.codings) {
                headers.append(("Content-Encoding", coding.rawValue))
                form = .coded(coding)
            }
        }
        // The hub greets each.
        guard
            let stream = exchange.openStream(
                headers: headers, observer: self, writesAtOnce: true)
        else { return context.limits.release(admitted) }
        if !admitted.places.isEmpty || !admitted.gates.isEmpty {
            self.admitted[ObjectIdentifier(stream)] = admitted
        }
        let key = hub.subscribe(
            stream, to: subscription, as: form, over: span, through: admitted.gates)
        stream.context = Int(truncatingIfNeeded: Int64(bitPattern: key.packed))
    }

    // MARK: - Requests

    func handle(_ request: HTTPRequest, _ exchange: HTTPExchange) {
        if NodeAdmin.answers(request, exchange, context) { return }
        switch request.head.method {
        case .get, .head: break
        case .options:
            exchange.respond(status: 204, headers: [("Allow", "GET, HEAD, OPTIONS")])
            return
        default:
            exchange.respond(
                ProblemDetails(
                    status: 405, title: "Method not allowed",
                    detail: "\(request.head.path) is read with GET.",
                    given: request.head.method.description, accepted: ["GET", "HEAD", "OPTIONS"]),
                headers: [("Allow", "GET, HEAD, OPTIONS")])
            return
        }
        let path = request.head.path
        if let page = NodePages.page(path, context) {
            exchange.respond(
                status: NodeAdmin.status(page.status, of: request.head, context),
                headers: page.headers, body: page.body)
            return
        }
        do throws(RequestProblem) {
            let parameters = try Self.parameters(request)
            let cursor = try Self.cursor(request, parameters)
            let span = try Self.asked { () throws(SubscriptionError) in
                try StreamSpanParameters(parameters).span(
                    after: cursor, now: WallClock.milliseconds)
            }
            let rate = try Self.asked { () throws(SubscriptionError) in
                try ChannelDirectory.eventRate(
                    parameters, atMost: context.configuration.limits.connectionEventRateMax)
            }
            if path == "/ws" {
                let wish = try webSocketWish(parameters, over: span)
                if let obstacle {
                    return exchange.respond(obstacle, headers: [("Retry-After", "1")])
                }
                guard let webSockets else { return }
                context.limits.admit(request, exchange, asking: rate, on: loop) {
                    webSockets.open(request, exchange, asking: wish, as: $0)
                }
                return
            }
            let subscription = try subscription(path, parameters)
            openStream(request, exchange, subscription, over: span, asking: rate)
        } catch {
            exchange.respond(error.problem)
        }
    }

    /// Why a request gets no stream.
    private struct RequestProblem: Error {
        let problem: ProblemDetails
    }

    private static func parameters(_ request: HTTPRequest) throws(RequestProblem)
        -> [(name: String, value: String)]
    {
        do throws(HTTP1Error) {
            return try request.head.parameters().list.map { ($0.name, $0.value) }
        } catch {
            throw RequestProblem(problem: ProblemDetails(error))
        }
    }

    /// The cursor to resume from. The header wins over the query, because a browser that reconnects
    /// sends a newer one there while its URL stays as it was; an empty one is none.
    private static func cursor(
        _ request: HTTPRequest, _ parameters: [(name: String, value: String)]
    ) throws(RequestProblem) -> EventID? {
        let header = request.head.headers.first("Last-Event-ID").flatMap { $0.isEmpty ? nil : $0 }
        let query = parameters.last { $0.name == "last_event_id" }?.value
        guard let text = header ?? query, !text.isEmpty else { return nil }
        do throws(EventIDError) {
            return try EventID.parse(text)
        } catch {
            throw RequestProblem(
                problem: ProblemDetails(
                    status: 400, title: "Malformed event ID", detail: error.description,
                    parameter: header != nil ? "Last-Event-ID" : "last_event_id",
                    given: error.given, accepted: EventIDError.accepted))
        }
    }

    /// What the query of a request for a WebSocket subscribes to; `nil` where there is none.
    private func webSocketWish(
        _ parameters: [(name: String, value: String)], over span: StreamSpan
    ) throws(RequestProblem) -> NodeWebSockets.Wish? {
        // It is about the socket, not about what is subscribed to.
        let parameters = parameters.filter { $0.name != ChannelDirectory.eventRateParameter }
        guard !parameters.isEmpty || span.start != .live else { return nil }
        let channels = parameters.filter { $0.name == "channel" }.map(\.value)
        guard channels.count <= 1 else {
            throw RequestProblem(
                problem: ProblemDetails(
                    status: 400, title: "Bad parameter",
                    detail: "A query subscribes to one channel; messages subscribe to more.",
                    parameter: "channel", given: channels.joined(separator: ",")))
        }
        let request = ChannelRequest(
            channel: channels.first, filters: parameters.filter { $0.name != "channel" })
        let subscription = try Self.asked { () throws(SubscriptionError) in
            try context.directory.subscription(request)
        }
        return .init(subscription: subscription, channel: channels.first, span: span)
    }

    private func subscription(_ path: String, _ parameters: [(name: String, value: String)])
        throws(RequestProblem) -> Subscription
    {
        if path == "/sse/events" || path == "/api/events" {
            return try Self.asked { () throws(SubscriptionError) in
                try context.directory.subscription(toAny: parameters)
            }
        }
        let prefix = "/api/v1/sse/"
        guard path.hasPrefix(prefix) else {
            throw RequestProblem(
                problem: ProblemDetails(
                    status: 404, title: "No such page", detail: "Nothing is served at this path.",
                    given: path, accepted: NodePages.paths))
        }
        let name = String(path.dropFirst(prefix.count))
        guard let channel = context.directory.channel(named: name) else {
            throw RequestProblem(
                problem: ProblemDetails(
                    status: 404, title: "No such channel",
                    detail: "No channel is named so, and no pattern matches a topic of that name.",
                    parameter: "channel", given: name,
                    accepted: context.directory.channels.map(\.name)
                        + context.directory.topicPatterns))
        }
        return try Self.asked { () throws(SubscriptionError) in
            try context.directory.subscription(to: channel, parameters: parameters)
        }
    }

    private static func asked<Value>(_ body: () throws(SubscriptionError) -> Value)
        throws(RequestProblem) -> Value
    {
        do throws(SubscriptionError) {
            return try body()
        } catch {
            throw RequestProblem(
                problem: ProblemDetails(
                    status: error.code == .unknownChannel ? 404 : 400, title: "Bad parameter",
                    detail: error.detail, parameter: error.parameter, given: error.given,
                    accepted: error.accepted))
        }
    }
}

/// An address to listen on, and what is spoken there.
struct ListenAddress: Sendable {
    let address: SocketAddress
    let speaksTLS: Bool

    init(_ address: SocketAddress, speaksTLS: Bool) {
        self.address = address
        self.speaksTLS = speaksTLS
    }
}
