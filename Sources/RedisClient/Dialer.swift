// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Reactor
import TLSEngine

/// Opens sockets to one address: resolves its name each time and tries what it resolves to in
/// turn, until one takes the connection and, where TLS is asked for, proves who it is.
///
/// Threads: its loop's. It keeps no deadline; its owner calls ``cancel()``.
final class Dialer: ReadinessHandler {
    private let loop: EventLoop
    private let address: RedisAddress
    private let tls: TLSClientContext?
    private let resolver: HostResolver
    private let connected: (consuming SocketTransport, _ peer: String) -> Void
    private let failed: (RedisError) -> Void

    private var attempts = 0
    private var candidates: ArraySlice<SocketAddress> = []
    private var peer = ""
    private var socket: SocketTransport?
    private var watch: SocketWatch?
    private var hasBegunTLS = false

    /// - Parameter tls: `nil` for plain connections.
    init(
        loop: EventLoop, address: RedisAddress, tls: TLSClientContext?,
        connected: @escaping (consuming SocketTransport, _ peer: String) -> Void,
        failed: @escaping (RedisError) -> Void
    ) {
        self.loop = loop
        self.address = address
        self.tls = tls
        self.connected = connected
        self.failed = failed
        resolver = HostResolver(loop: loop)
    }

    /// Begins an attempt; `connected` or `failed` is called once, unless it is cancelled first.
    func dial() {
        attempts += 1
        switch address {
        case .unix(let path):
            candidates = [.unix(path)]
            tryNext()
        case .tcp(let host, let port):
            if let numeric = SocketAddress(numericHost: host, port: port) {
                candidates = [numeric]
                tryNext()
            } else {
                resolver.resolve(host: host, port: port) { [weak self] in self?.resolved($0) }
            }
        }
    }

    func cancel() {
        resolver.cancel()
        candidates = []
        hangUp()
    }

    func descriptorIsReady(_ readiness: Readiness) {
        guard let watch else { return }
        if let error = StreamSocket.pendingError(of: watch.descriptor) {
            hangUp()
            return tryNext(after: RedisError(.connectFailed, "\(peer): \(error)"))
        }
        do throws(TLSError) {
            guard try isReady() else { return }
        } catch {
            hangUp()
            return tryNext(after: RedisError(.tlsFailed, "\(peer): \(error)"))
        }
        endWatch()
        candidates = []
        connected(socket.take()!, peer)
    }

    /// Goes on with the handshake where there is one; true once commands can be sent.
    private func isReady() throws(TLSError) -> Bool {
        guard let tls, case .tcp(let host, _) = address else { return true }
        if !hasBegunTLS {
            hasBegunTLS = true
            try socket!.beginTLS(tls, host: host)
        }
        switch socket!.handshake() {
        case .done: return true
        case .wantRead: watch?.change(to: .readable)
        case .wantWrite: watch?.change(to: .writable)
        case .failed(let error): throw error
        }
        return false
    }

    private func resolved(_ answer: HostResolver.Answer) {
        switch answer {
        case .success(let addresses):
            // Each attempt begins with another address, so that one that swallows everything
            // does not hide the rest for ever.
            let first = (attempts - 1) % addresses.count
            candidates = addresses[first...] + addresses[..<first]
            tryNext()
        case .failure(let error): failed(RedisError(.resolveFailed, error.description))
        }
    }

    private func tryNext(after failure: RedisError? = nil) {
        var failure = failure
        while let next = candidates.popFirst() {
            peer = next.description
            do throws(Errno) {
                let dialed = SocketTransport(try StreamSocket.connect(to: next))
                watch = try dialed.watch(on: loop, for: .writable, handler: self)
                socket = consume dialed
                return
            } catch { failure = RedisError(.connectFailed, "\(next): \(error)") }
        }
        failed(failure ?? RedisError(.connectFailed, "\(address): no address to try"))
    }

    private func hangUp() {
        endWatch()
        socket = nil
    }

    private func endWatch() {
        watch?.end()
        watch = nil
        hasBegunTLS = false
    }
}
