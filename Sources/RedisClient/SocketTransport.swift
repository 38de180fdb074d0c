// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO
import Reactor
import TLSEngine

/// The byte stream to a server: a nonblocking socket, owned, and the TLS session on it where there
/// is one.
///
/// The connection reads and writes through this alone.
struct SocketTransport: ~Copyable {
    private let descriptor: OwnedDescriptor
    private var session: TLSSession?

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// Begins TLS on the connected socket; ``handshake()`` goes on with it.
    mutating func beginTLS(_ context: TLSClientContext, host: String) throws(TLSError) {
        session = try TLSSession(
            client: context, descriptor: descriptor.number, host: host, records: TLSRecordBuffer())
    }

    /// Goes on with the handshake; done at once where there is no TLS.
    func handshake() -> TLSHandshakeStep { session?.handshake() ?? .done }

    /// Has `loop` call `handler` when the socket is ready.
    func watch(on loop: EventLoop, for interest: Interest, handler: any ReadinessHandler)
        throws(Errno) -> SocketWatch
    {
        let number = descriptor.number
        let registration = try loop.register(number, for: interest, handler: handler)
        return SocketWatch(
            loop: loop, registration: registration, descriptor: number, interest: interest)
    }

    func read(into buffer: inout [UInt8]) -> TransferOutcome {
        unsafe buffer.withUnsafeMutableBytes { room in
            guard let session else {
                return unsafe StreamSocket.read(descriptor.number, into: room)
            }
            return unsafe Self.outcome(session.read(into: room))
        }
    }

    /// Bytes that were taken may still wait here: ``flush()`` says so.
    func write(_ bytes: Span<UInt8>) -> TransferOutcome {
        unsafe bytes.withUnsafeBytes { bytes in
            guard let session else { return unsafe StreamSocket.write(descriptor.number, bytes) }
            return unsafe Self.outcome(session.write(bytes))
        }
    }

    /// Sends what was taken: `.transferred(0)` once nothing waits.
    func flush() -> TransferOutcome {
        guard let session else { return .transferred(0) }
        return Self.outcome(session.flush())
    }

    private static func outcome(_ outcome: TLSOutcome) -> TransferOutcome {
        switch outcome {
        case .transferred(let count): .transferred(count)
        case .wantRead, .wantWrite: .wouldBlock
        case .closed: .endOfFile
        case .failed(let error): .failed(Errno(error.systemCode ?? EPROTO))
        }
    }
}

/// A loop's eye on one socket. End it before the socket is closed.
struct SocketWatch {
    let loop: EventLoop
    let registration: Registration
    let descriptor: CInt
    private(set) var interest: Interest

    mutating func change(to wanted: Interest) {
        guard interest != wanted else { return }
        interest = wanted
        loop.update(registration, descriptor: descriptor, to: wanted)
    }

    func end() { loop.deregister(registration, descriptor: descriptor) }
}

/// Bytes on their way to a server, gathered while earlier ones are being written.
struct OutgoingBytes {
    private var gathering = ByteWriter()
    private var leaving = ByteWriter()
    private var offset = 0
    /// All bytes the socket has taken, since the connection began.
    private(set) var writtenTotal: UInt64 = 0

    /// Where the next byte to be appended will lie in the stream.
    var endOffset: UInt64 {
        writtenTotal + UInt64(leaving.count - offset) + UInt64(gathering.count)
    }

    var isEmpty: Bool { offset == leaving.count && gathering.count == 0 }

    mutating func append(_ command: RedisCommand, scriptPart: [UInt8]?) {
        gathering.append(command, scriptPart: scriptPart)
    }

    /// Writes until all is gone or the socket takes no more; the outcome of the last write.
    mutating func write(to transport: borrowing SocketTransport) -> TransferOutcome {
        var total = 0
        while !isEmpty {
            if offset == leaving.count {
                // A burst's memory is not kept for ever.
                leaving.removeAll(keepingCapacity: leaving.count <= 1 << 20)
                swap(&leaving, &gathering)
                offset = 0
            }
            let outcome = transport.write(leaving.bytes.span.extracting(offset..<leaving.count))
            guard case .transferred(let count) = outcome else { return outcome }
            offset += count
            total += count
            writtenTotal += UInt64(count)
        }
        let flushed = transport.flush()
        guard case .transferred = flushed else { return flushed }
        return .transferred(total)
    }
}
