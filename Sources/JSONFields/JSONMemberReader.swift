// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CSimdJSON

/// One value of a document that is read whole.
package struct JSONMember: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        case null
        case bool(Bool)
        /// In JSON's form: an integer exactly, any other in the shortest form of its `Double`.
        case number(String)
        case text(String)
        /// An empty array, or something nested deeper than the reader looks.
        case container
    }

    /// The key of the outermost object that leads to the object of this member; `nil` for the
    /// members of the outermost object itself.
    package let group: String?
    package let key: String
    package let value: Value

    package init(group: String? = nil, key: String, value: Value) {
        self.group = group
        self.key = key
        self.value = value
    }
}

/// Reads small documents whole, such as what a client asks: the scalars of an object and of the
/// objects in it.
///
/// Threads: one; every thread that reads documents has its own. An array gives one member for each
/// element, all with the same key. Equal keys give members each, in the document's order: whoever
/// reads them decides what that means.
@safe
package final class JSONMemberReader {
    package let documentBytesMax: Int
    package let membersMax: Int

    private let extractor: OpaquePointer
    private let members: UnsafeMutableBufferPointer<sj_member>

    /// - Throws: ``JSONFieldsError`` where the limit is not in
    ///   1...``JSONFieldLimits/eventBytes``, or where there is no memory.
    package init(documentBytesMax: Int, membersMax: Int) throws(JSONFieldsError) {
        guard (1...JSONFieldLimits.eventBytes).contains(documentBytesMax) else {
            throw JSONFieldsError(
                .limitOutOfRange,
                "documentBytesMax is \(documentBytesMax); 1 to \(JSONFieldLimits.eventBytes) "
                    + "are possible")
        }
        guard let extractor = unsafe sj_extractor_new(documentBytesMax, JSONFieldLimits.depth)
        else {
            throw JSONFieldsError(
                .outOfMemory, "no memory to read documents of \(documentBytesMax) bytes")
        }
        self.documentBytesMax = documentBytesMax
        self.membersMax = max(1, membersMax)
        unsafe self.extractor = extractor
        unsafe members = .allocate(capacity: self.membersMax)
        unsafe members.initialize(repeating: sj_member())
    }

    deinit {
        unsafe sj_extractor_free(extractor)
        unsafe members.deallocate()
    }

    /// Checks `document` and reads its members.
    ///
    /// - Returns: The members where it is an object, and how many it has: where these are more
    ///   than ``membersMax``, none are given.
    package func read(_ document: Span<UInt8>)
        -> (verdict: JSONEventVerdict, members: [JSONMember], count: Int)
    {
        var count = 0
        let status = unsafe document.withUnsafeBufferPointer {
            unsafe sj_extractor_members(
                extractor, $0.baseAddress, $0.count, members.baseAddress, membersMax, &count)
        }
        let verdict = JSONEventVerdict(status, on: document)
        guard verdict == .object, count <= membersMax else { return (verdict, [], count) }
        var found: [JSONMember] = []
        found.reserveCapacity(count)
        for index in 0..<count { unsafe found.append(JSONMember(members[index])) }
        return (verdict, found, count)
    }
}

extension JSONMember {
    fileprivate init(_ member: sj_member) {
        let value: Value
        let bits = unsafe member.value.bits
        switch unsafe Int(member.value.kind) {
        case SJ_NULL: value = .null
        case SJ_BOOL: value = .bool(bits != 0)
        case SJ_INT64: value = .number(String(Int64(bitPattern: bits)))
        case SJ_UINT64: value = .number(String(bits))
        case SJ_DOUBLE: value = .number(Double(bitPattern: bits).description)
        case SJ_TEXT:
            value = unsafe .text(Self.string(member.value.text, member.value.text_length))
        default: value = .container
        }
        unsafe self.init(
            group: member.group == nil ? nil : Self.string(member.group, member.group_length),
            key: Self.string(member.key, member.key_length), value: value)
    }

    private static func string(_ start: UnsafePointer<UInt8>?, _ count: UInt32) -> String {
        unsafe String(
            decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
    }
}
