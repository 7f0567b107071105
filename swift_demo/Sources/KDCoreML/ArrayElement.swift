/// The types of element that the packages of a bundle take and give.
enum ArrayElement: Sendable, CaseIterable {
    case float16
    case float32
    case int32

    /// The bytes of one element.
    var size: Int { self == .float16 ? 2 : 4 }

    /// Reads an array.
    ///
    /// - Parameters:
    ///   - memory: The bytes, beginning with the first element.
    ///   - layout: Where the elements lie.
    /// - Returns: The elements in row-major order, or nil where the memory ends before them.
    func read(_ memory: UnsafeRawBufferPointer, layout: StridedLayout) -> [Float]? {
        guard let base = memory.baseAddress, memory.count >= layout.span * size else {
            return layout.count == 0 ? [] : nil
        }
        return Array(unsafeUninitializedCapacity: layout.count) { values, count in
            layout.forEachRun { start, index, length in
                let source = base + start * size
                switch self {
                case .float16:
                    let halves = source.assumingMemoryBound(to: UInt16.self)
                    for offset in 0..<length {
                        values.initializeElement(at: index + offset, to: Half.value(halves[offset]))
                    }
                case .float32:
                    let floats = source.assumingMemoryBound(to: Float.self)
                    for offset in 0..<length {
                        values.initializeElement(at: index + offset, to: floats[offset])
                    }
                case .int32:
                    let integers = source.assumingMemoryBound(to: Int32.self)
                    for offset in 0..<length {
                        values.initializeElement(at: index + offset, to: Float(integers[offset]))
                    }
                }
            }
            count = layout.count
        }
    }

    /// Writes an array.
    ///
    /// - Parameters:
    ///   - values: The elements in row-major order, as many as the layout has.
    ///   - memory: The bytes, beginning with the first element; padding is left as it is.
    ///   - layout: Where the elements lie.
    /// - Returns: Whether all were written: the memory holds them, and where integers are wanted
    ///   they are whole numbers of 32 bits.
    func write(
        _ values: [Float], to memory: UnsafeMutableRawBufferPointer, layout: StridedLayout
    ) -> Bool {
        guard values.count == layout.count else { return false }
        guard let base = memory.baseAddress, memory.count >= layout.span * size else {
            return values.isEmpty
        }
        if self == .int32, !values.allSatisfy({ Int32(exactly: $0) != nil }) { return false }
        layout.forEachRun { start, index, length in
            let target = base + start * size
            switch self {
            case .float16:
                let halves = target.assumingMemoryBound(to: UInt16.self)
                for offset in 0..<length { halves[offset] = Half.bits(values[index + offset]) }
            case .float32:
                let floats = target.assumingMemoryBound(to: Float.self)
                for offset in 0..<length { floats[offset] = values[index + offset] }
            case .int32:
                let integers = target.assumingMemoryBound(to: Int32.self)
                for offset in 0..<length { integers[offset] = Int32(values[index + offset]) }
            }
        }
        return true
    }
}
