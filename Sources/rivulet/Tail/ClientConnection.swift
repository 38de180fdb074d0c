// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO

/// A TCP connection to a server, read and written by waiting.
///
/// Threads: one, which waits in poll(2) and can be stopped by a signal.
final class ClientConnection {
    private static let bufferBytes = 64 * 1024

    /// The server, for messages.
    let name: String

    private let socket: OwnedDescriptor
    private let stop: StopSignals
    private var buffer = [UInt8](repeating: 0, count: ClientConnection.bufferBytes)

    /// Connects to the first of the host's addresses that takes the connection.
    init(_ url: ServerURL, stop: StopSignals, deadline: MonotonicTime) throws(ProgramError) {
        let addresses: [SocketAddress]
        do {
            addresses = try SocketAddress.resolve(host: url.host, port: url.port)
        } catch { throw ProgramError(.unavailable, error.description) }
        socket = try Self.connect(to: addresses, of: url, stop, deadline)
        self.stop = stop
        name = url.authority
    }

    /// The error for a signal that ends a wait.
    var interrupted: ProgramError { stop.cutShort("interrupted") }

    private static func connect(
        to addresses: [SocketAddress], of url: ServerURL, _ stop: StopSignals,
        _ deadline: MonotonicTime
    ) throws(ProgramError) -> OwnedDescriptor {
        var problem = "\(url.authority) has no address"
        for (index, address) in addresses.enumerated() {
            // What is left is shared, so that a silent address leaves time for the others.
            let share = (deadline - .now) / (addresses.count - index)
            do throws(Errno) {
                let socket = try StreamSocket.connect(to: address)
                try wait(for: socket.number, stop, MonotonicTime.now + share)
                guard let error = StreamSocket.pendingError(of: socket.number) else {
                    return socket
                }
                throw error
            } catch {
                if stop.isStopped { throw stop.cutShort("interrupted") }
                problem = "cannot connect to \(address): \(error)"
            }
        }
        throw ProgramError(.unavailable, problem)
    }

    /// Waits until the socket can be written to.
    private static func wait(
        for descriptor: CInt, _ stop: StopSignals, _ deadline: MonotonicTime
    ) throws(Errno) {
        var entries = [pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)]
        switch stop.wait(on: &entries, until: deadline) {
        case .ready: return
        case .deadlinePassed: throw Errno(ETIMEDOUT)
        case .stopped: throw Errno(EINTR)
        }
    }

    func send(_ bytes: [UInt8], until deadline: MonotonicTime) throws(ProgramError) {
        var sent = 0
        while sent < bytes.count {
            let outcome = unsafe bytes[sent...].withUnsafeBytes {
                unsafe StreamSocket.write(socket.number, $0)
            }
            switch outcome {
            case .transferred(let count): sent += count
            case .wouldBlock:
                do { try Self.wait(for: socket.number, stop, deadline) } catch {
                    if stop.isStopped { throw interrupted }
                    throw ProgramError(.unavailable, "\(name) does not read the request")
                }
            case .endOfFile, .failed:
                throw ProgramError(.transferFailed, "\(name) closed the connection")
            }
        }
    }

    /// Waits for bytes and lends them to `body`.
    ///
    /// - Returns: ``HTTPExchange/Progress/ended`` where the server has closed its side.
    func receive(
        until deadline: MonotonicTime?, watching output: CInt? = nil,
        _ body: (ArraySlice<UInt8>) -> Void
    ) throws(ProgramError) -> HTTPExchange.Progress {
        while true {
            var entries = [pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)]
            if let output { entries.append(pollfd(fd: output, events: 0, revents: 0)) }
            switch stop.wait(on: &entries, until: deadline) {
            case .stopped: return .stopped
            case .deadlinePassed: return .deadlinePassed
            case .ready: break
            }
            if entries.count > 1, CInt(entries[1].revents) & (POLLERR | POLLHUP) != 0 {
                return .outputClosed
            }
            let outcome = unsafe buffer.withUnsafeMutableBytes {
                unsafe StreamSocket.read(socket.number, into: $0)
            }
            switch outcome {
            case .transferred(let count):
                body(buffer[..<count])
                return .read
            case .wouldBlock: continue
            case .endOfFile: return .ended
            case .failed(let error):
                throw ProgramError(.transferFailed, "the connection broke: \(error)")
            }
        }
    }
}
