// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import CLinux
import Glibc

/// Where a socket listens or connects.
package enum SocketAddress: Sendable, Hashable, CustomStringConvertible {
    /// An IPv4 address in host byte order and a port.
    case ipv4(UInt32, port: UInt16)
    /// The sixteen bytes of an IPv6 address and a port.
    case ipv6([UInt8], port: UInt16)
    /// The path of a Unix-domain socket.
    case unix(String)

    package static func loopback(port: UInt16) -> SocketAddress { .ipv4(0x7f00_0001, port: port) }

    package var port: UInt16? {
        switch self {
        case .ipv4(_, let port), .ipv6(_, let port): port
        case .unix: nil
        }
    }

    /// The address without its port, as people write it.
    package var host: String {
        switch self {
        case .ipv4(let address, _):
            return "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
        case .ipv6(let bytes, _):
            return unsafe bytes.withUnsafeBytes { raw in
                var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
                let size = socklen_t(text.count)
                guard unsafe inet_ntop(AF_INET6, raw.baseAddress, &text, size) != nil
                else { return "?" }
                return unsafe text.withUnsafeBufferPointer {
                    unsafe String(cString: $0.baseAddress!)
                }
            }
        case .unix(let path): return path
        }
    }

    package var description: String {
        switch self {
        case .ipv4(_, let port): "\(host):\(port)"
        case .ipv6(_, let port): "[\(host)]:\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// Reads a numeric address; `nil` for names, which need ``resolve(host:port:)``.
    package init?(numericHost host: String, port: UInt16) {
        var v4 = in_addr()
        if unsafe inet_pton(AF_INET, host, &v4) == 1 {
            self = .ipv4(UInt32(bigEndian: v4.s_addr), port: port)
            return
        }
        var v6 = in6_addr()
        guard unsafe inet_pton(AF_INET6, host, &v6) == 1 else { return nil }
        self = unsafe .ipv6(withUnsafeBytes(of: v6) { unsafe Array($0) }, port: port)
    }

    /// Looks a name up. Blocks, so it belongs on a thread of its own, never on a loop.
    package static func resolve(host: String, port: UInt16) throws(ResolveError) -> [SocketAddress]
    {
        if let numeric = SocketAddress(numericHost: host, port: port) { return [numeric] }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else {
            throw ResolveError(host: host, reason: unsafe String(cString: gai_strerror(status)))
        }
        defer { unsafe freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = unsafe list
        while let entry = unsafe next {
            if let address = unsafe SocketAddress(entry.pointee.ai_addr, port: port) {
                found.append(address)
            }
            unsafe next = entry.pointee.ai_next
        }
        guard !found.isEmpty else {
            throw ResolveError(host: host, reason: "has no IPv4 or IPv6 address")
        }
        return found
    }

    /// Reads what the kernel filled in. `port` replaces the stored one where it is given.
    package init?(_ raw: UnsafePointer<sockaddr>?, port: UInt16? = nil) {
        guard let raw = unsafe raw else { return nil }
        switch unsafe CInt(raw.pointee.sa_family) {
        case AF_INET:
            let v4 = unsafe UnsafeRawPointer(raw).loadUnaligned(as: sockaddr_in.self)
            self = .ipv4(
                UInt32(bigEndian: v4.sin_addr.s_addr), port: port ?? UInt16(bigEndian: v4.sin_port))
        case AF_INET6:
            let v6 = unsafe UnsafeRawPointer(raw).loadUnaligned(as: sockaddr_in6.self)
            self = .ipv6(
                unsafe withUnsafeBytes(of: v6.sin6_addr) { unsafe Array($0) },
                port: port ?? UInt16(bigEndian: v6.sin6_port))
        case AF_UNIX: self = .unix("")
        default: return nil
        }
    }

    var family: CInt {
        switch self {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        }
    }

    /// Lends the kernel's form of the address.
    func withSockaddr<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var storage = sockaddr_storage()
        var length = socklen_t(0)
        switch self {
        case .ipv4(let address, let port):
            var v4 = sockaddr_in()
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_addr.s_addr = address.bigEndian
            v4.sin_port = port.bigEndian
            unsafe withUnsafeMutableBytes(of: &storage) {
                unsafe $0.storeBytes(of: v4, as: sockaddr_in.self)
            }
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
        case .ipv6(let bytes, let port):
            var v6 = sockaddr_in6()
            v6.sin6_family = sa_family_t(AF_INET6)
            v6.sin6_port = port.bigEndian
            unsafe withUnsafeMutableBytes(of: &v6.sin6_addr) { unsafe $0.copyBytes(from: bytes) }
            unsafe withUnsafeMutableBytes(of: &storage) {
                unsafe $0.storeBytes(of: v6, as: sockaddr_in6.self)
            }
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        case .unix(let path):
            var local = sockaddr_un()
            local.sun_family = sa_family_t(AF_UNIX)
            let limit = MemoryLayout.size(ofValue: local.sun_path)
            guard path.utf8.count < limit else { throw Errno(ENAMETOOLONG) }
            unsafe withUnsafeMutableBytes(of: &local.sun_path) {
                unsafe $0.copyBytes(from: Array(path.utf8))
            }
            unsafe withUnsafeMutableBytes(of: &storage) {
                unsafe $0.storeBytes(of: local, as: sockaddr_un.self)
            }
            length = socklen_t(MemoryLayout<sockaddr_un>.size)
        }
        var outcome: Swift.Result<Result, Errno>?
        unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                do throws(Errno) {
                    outcome = .success(try unsafe body(raw, length))
                } catch {
                    outcome = .failure(error)
                }
            }
        }
        return try outcome!.get()
    }
}

/// Why a host name has no address.
package struct ResolveError: Error, Sendable, CustomStringConvertible {
    package let host: String
    package let reason: String
    package var description: String { "cannot resolve \"\(host)\": \(reason)" }
}

/// A connection that a listener took: its descriptor and who is at the other end.
package struct AcceptedSocket: ~Copyable, Sendable {
    package let peer: SocketAddress
    private let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor, peer: SocketAddress) {
        self.descriptor = descriptor
        self.peer = peer
    }

    package var number: CInt { descriptor.number }

    /// Gives the descriptor to a new owner.
    package consuming func takeDescriptor() -> OwnedDescriptor { descriptor }
}

/// What a read or write on a nonblocking socket did.
package enum TransferOutcome: Sendable, Equatable {
    case transferred(Int)
    case wouldBlock
    /// The peer has closed its side (a read of zero bytes).
    case endOfFile
    case failed(Errno)
}

/// Calls on stream sockets. Each is nonblocking and closes over EINTR.
package enum StreamSocket {
    /// Opens a nonblocking listener.
    ///
    /// - Parameter sharesPort: Sets SO_REUSEPORT, so that each event loop has a listener of its
    ///   own on the same port and the kernel spreads the connections over them.
    package static func listen(on address: SocketAddress, backlog: CInt, sharesPort: Bool)
        throws(Errno) -> OwnedDescriptor
    {
        let socket = try open(family: address.family)
        if case .unix(let path) = address {
            _ = unsafe unlink(path)
        } else {
            try set(socket.number, level: SOL_SOCKET, option: SO_REUSEADDR, to: 1)
            if sharesPort {
                try set(socket.number, level: SOL_SOCKET, option: SO_REUSEPORT, to: 1)
            }
        }
        try unsafe address.withSockaddr { (raw, length) throws(Errno) in
            guard unsafe bind(socket.number, raw, length) == 0 else { throw .current }
        }
        guard Glibc.listen(socket.number, backlog) == 0 else { throw .current }
        return socket
    }

    /// Takes one waiting connection, or `nil` where none waits.
    ///
    /// - Throws: EMFILE and the like. A connection that its peer reset while it waited is
    ///   skipped, because it is nobody's error.
    package static func accept(from listener: CInt) throws(Errno) -> AcceptedSocket? {
        while true {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            var peer: SocketAddress?
            let number = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                    let number = unsafe clinux_accept(listener, raw, &length)
                    if number >= 0 { unsafe peer = SocketAddress(UnsafePointer(raw)) }
                    return number
                }
            }
            if number >= 0 {
                return AcceptedSocket(OwnedDescriptor(adopting: number), peer: peer ?? .unix(""))
            }
            switch errno {
            case EINTR, ECONNABORTED, EPROTO: continue
            case EAGAIN: return nil
            default: throw .current
            }
        }
    }

    /// Begins to connect. The socket becomes writable when the outcome is known; ask
    /// ``pendingError(of:)`` for it then.
    ///
    /// - Parameter source: An address of this machine to come from, with port 0; `nil` leaves it to
    ///   the kernel. The port is chosen for the target, so that one address has all ports for each.
    package static func connect(to address: SocketAddress, from source: SocketAddress? = nil)
        throws(Errno) -> OwnedDescriptor
    {
        let socket = try open(family: address.family)
        if case .unix = address {} else { try disableDelay(socket.number) }
        if let source {
            try set(
                socket.number, level: CInt(IPPROTO_IP), option: CInt(IP_BIND_ADDRESS_NO_PORT),
                to: 1)
            try unsafe source.withSockaddr { (raw, length) throws(Errno) in
                guard unsafe bind(socket.number, raw, length) == 0 else { throw .current }
            }
        }
        try unsafe address.withSockaddr { (raw, length) throws(Errno) in
            guard unsafe Glibc.connect(socket.number, raw, length) != 0 else { return }
            guard errno == EINPROGRESS || errno == EINTR else { throw .current }
        }
        return socket
    }

    /// The error a connect or the peer left on the socket, or `nil`.
    package static func pendingError(of socket: CInt) -> Errno? {
        var code: CInt = 0
        var size = socklen_t(MemoryLayout<CInt>.size)
        guard unsafe getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &size) == 0 else {
            return .current
        }
        return code == 0 ? nil : Errno(code)
    }

    /// Sends small writes at once instead of waiting for an acknowledgement (TCP_NODELAY).
    package static func disableDelay(_ socket: CInt) throws(Errno) {
        try set(socket, level: CInt(IPPROTO_TCP), option: TCP_NODELAY, to: 1)
    }

    package static func localAddress(of socket: CInt) throws(Errno) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var address: SocketAddress?
        let status = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                let status = unsafe getsockname(socket, raw, &length)
                if status == 0 { unsafe address = SocketAddress(UnsafePointer(raw)) }
                return status
            }
        }
        guard status == 0 else { throw .current }
        guard let address else { throw Errno(EAFNOSUPPORT) }
        return address
    }

    /// Reads what is there into `buffer`.
    package static func read(_ socket: CInt, into buffer: UnsafeMutableRawBufferPointer)
        -> TransferOutcome
    {
        while true {
            let count = unsafe recv(socket, buffer.baseAddress, buffer.count, 0)
            if count > 0 { return .transferred(count) }
            if count == 0 { return .endOfFile }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .wouldBlock : .failed(.current)
        }
    }

    /// Writes as much of `bytes` as the socket takes. Never raises SIGPIPE.
    ///
    /// - Parameter moreFollows: The kernel may wait with them for what is written next, 200 ms at
    ///   most (MSG_MORE).
    package static func write(
        _ socket: CInt, _ bytes: UnsafeRawBufferPointer, moreFollows: Bool = false
    ) -> TransferOutcome {
        let options = Int32(MSG_NOSIGNAL) | (moreFollows ? Int32(MSG_MORE) : 0)
        while true {
            let count = unsafe send(socket, bytes.baseAddress, bytes.count, options)
            if count >= 0 { return .transferred(count) }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .wouldBlock : .failed(.current)
        }
    }

    /// Writes several pieces in one call, in order. Never raises SIGPIPE.
    package static func write(_ socket: CInt, pieces: UnsafeBufferPointer<iovec>) -> TransferOutcome
    {
        while true {
            var message = unsafe msghdr()
            unsafe message.msg_iov = UnsafeMutablePointer(mutating: pieces.baseAddress)
            unsafe message.msg_iovlen = pieces.count
            let count = unsafe sendmsg(socket, &message, Int32(MSG_NOSIGNAL))
            if count >= 0 { return .transferred(count) }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .wouldBlock : .failed(.current)
        }
    }

    private static func open(family: CInt) throws(Errno) -> OwnedDescriptor {
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
        let number = socket(family, type | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw .current }
        return OwnedDescriptor(adopting: number)
    }

    package static func set(_ socket: CInt, level: CInt, option: CInt, to value: CInt) throws(Errno)
    {
        var value = value
        let size = socklen_t(MemoryLayout<CInt>.size)
        guard unsafe setsockopt(socket, level, option, &value, size) == 0 else { throw .current }
    }
}
