// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A few measurements of the same thing.
struct Spread: Sendable, Equatable {
    /// In ascending order.
    let values: [Double]

    init(_ values: [Double]) { self.values = values.sorted() }

    var minimum: Double { values.first ?? .nan }
    var maximum: Double { values.last ?? .nan }

    var median: Double {
        guard !values.isEmpty else { return .nan }
        let middle = values.count / 2
        return values.count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2
    }
}
