// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO
import Reactor

/// The byte stream to a server: a nonblocking socket, owned.
///
/// The connection reads and writes through this alone, so an encrypted stream can take its place.
struct SocketTransport: ~Copyable {
    private let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

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
        unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(descriptor.number, into: $0)
        }
    }

    func write(_ bytes: Span<UInt8>) -> TransferOutcome {
        unsafe bytes.withUnsafeBytes { unsafe StreamSocket.write(descriptor.number, $0) }
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
        return .transferred(total)
    }
}
