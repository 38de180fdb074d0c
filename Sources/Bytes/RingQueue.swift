// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A first-in, first-out queue with an index: appending, dropping the first, and reading any
/// element by its position are all constant in time. Inlinable for the reason that ``Slab`` is.
@usableFromInline
package struct RingQueue<Element> {
    @usableFromInline var storage: [Element?]
    @usableFromInline var head = 0
    @usableFromInline package internal(set) var count = 0

    @inlinable
    package init(reserving capacity: Int = 16) {
        var power = 16
        while power < capacity { power *= 2 }
        storage = Array(repeating: nil, count: power)
    }

    @inlinable
    package var isEmpty: Bool { count == 0 }
    @inlinable
    package var first: Element? { count == 0 ? nil : self[0] }
    @inlinable
    package var last: Element? { count == 0 ? nil : self[count - 1] }

    @inlinable
    package subscript(position: Int) -> Element {
        get {
            precondition(position >= 0 && position < count, "position \(position) of \(count)")
            return storage[(head + position) & (storage.count - 1)]!
        }
        set {
            precondition(position >= 0 && position < count, "position \(position) of \(count)")
            storage[(head + position) & (storage.count - 1)] = newValue
        }
    }

    @inlinable
    package mutating func append(_ element: Element) {
        if count == storage.count { grow() }
        storage[(head + count) & (storage.count - 1)] = element
        count += 1
    }

    @discardableResult
    @inlinable
    package mutating func popFirst() -> Element? {
        guard count > 0 else { return nil }
        let element = storage[head]
        storage[head] = nil
        head = (head + 1) & (storage.count - 1)
        count -= 1
        return element
    }

    @inlinable
    package mutating func removeAll() {
        storage = Array(repeating: nil, count: 16)
        head = 0
        count = 0
    }

    @inlinable
    mutating func grow() {
        var larger: [Element?] = Array(repeating: nil, count: storage.count * 2)
        for position in 0..<count {
            larger[position] = storage[(head + position) & (storage.count - 1)]
        }
        storage = larger
        head = 0
    }
}
