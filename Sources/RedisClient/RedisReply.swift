// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One value of a reply, copied out and owned.
///
/// ``RedisReplyView`` reads the same without a copy; this is for values that outlive the
/// completion they were given to.
package enum RedisReply: Sendable, Equatable {
    case simple(String)
    case integer(Int64)
    case bulk([UInt8])
    case null
    case array([RedisReply])
    /// An error inside an array. One that is the whole reply fails its command instead.
    case error(String)
}

/// One value of a reply, read in place.
///
/// It lives as long as the completion it is given to. Reading never fails: where the value is of
/// another type, `bytes` is empty, `integer` and `text` are `nil`, and an element that is not
/// there is null, so a reply of the wrong shape is seen as missing parts and not as a crash.
package struct RedisReplyView: ~Escapable {
    package enum Kind: Sendable { case simple, error, integer, bulk, null, array }

    private let nodes: Span<ReplyNode>
    private let payload: Span<UInt8>
    private let node: ReplyNode

    @_lifetime(copy nodes, copy payload)
    init(nodes: Span<ReplyNode>, payload: Span<UInt8>, node: ReplyNode) {
        self.nodes = nodes
        self.payload = payload
        self.node = node
    }

    package var kind: Kind { node.kind }

    package var isNull: Bool { node.kind == .null }

    /// The elements of an array; 0 for anything else.
    package var count: Int { node.kind == .array ? node.count : 0 }

    /// Element `index` of an array; null where there is none.
    package subscript(index: Int) -> RedisReplyView {
        @_lifetime(copy self)
        get {
            let isThere = node.kind == .array && index >= 0 && index < node.count
            let element = isThere ? nodes[node.first + index] : .null
            return RedisReplyView(nodes: nodes, payload: payload, node: element)
        }
    }

    /// The bytes of a bulk string, simple string or error; empty for anything else.
    package var bytes: Span<UInt8> {
        @_lifetime(copy self)
        get {
            switch node.kind {
            case .bulk, .simple, .error:
                payload.extracting(node.first..<node.first + node.count)
            case .integer, .null, .array: payload.extracting(0..<0)
            }
        }
    }

    /// The number, where it is an integer.
    package var integer: Int64? { node.kind == .integer ? Int64(node.first) : nil }

    /// The text of a bulk string, simple string or error; what is not UTF-8 becomes U+FFFD.
    package var text: String? {
        switch node.kind {
        case .bulk, .simple, .error:
            unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
        case .integer, .null, .array: nil
        }
    }

    /// True where the bytes are those of `literal`.
    package func equals(_ literal: StaticString) -> Bool {
        let bytes = self.bytes
        guard bytes.count == literal.utf8CodeUnitCount else { return false }
        return literal.withUTF8Buffer { text in
            for index in bytes.indices where unsafe bytes[index] != text[index] { return false }
            return true
        }
    }

    /// An owned copy of the value and all that is in it.
    package func copy() -> RedisReply {
        switch node.kind {
        case .simple: return .simple(text ?? "")
        case .error: return .error(text ?? "")
        case .integer: return .integer(Int64(node.first))
        case .null: return .null
        case .bulk:
            return .bulk(unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) })
        case .array:
            var elements: [RedisReply] = []
            elements.reserveCapacity(count)
            for index in 0..<count { elements.append(self[index].copy()) }
            return .array(elements)
        }
    }
}

/// One value of a decoded reply; `first` and `count` mean what `kind` says.
struct ReplyNode {
    let kind: RedisReplyView.Kind
    /// The offset of the bytes, the index of an array's first element, or the integer itself.
    let first: Int
    /// The number of bytes or elements.
    let count: Int

    static let null = ReplyNode(kind: .null, first: 0, count: 0)
}

/// One whole reply: its values in one array, its bytes in another, the root first.
///
/// The elements of an array lie side by side, so that any one is found in constant time.
package struct DecodedReply {
    var nodes: [ReplyNode] = []
    var payload: [UInt8] = []

    /// Empties both arrays; keeps their memory unless a large reply has swollen it.
    mutating func reset() {
        nodes.removeAll(keepingCapacity: nodes.count <= 16_384)
        payload.removeAll(keepingCapacity: payload.count <= 1 << 20)
    }

    package var view: RedisReplyView {
        @_lifetime(borrow self)
        get { RedisReplyView(nodes: nodes.span, payload: payload.span, node: nodes.first ?? .null) }
    }
}
