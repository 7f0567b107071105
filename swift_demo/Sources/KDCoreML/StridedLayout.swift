/// Where the elements of an array lie in memory.
///
/// Core ML pads rows of its outputs, so neighbours in the last dimension but one may be further
/// apart than the last dimension is long.
struct StridedLayout: Equatable, Sendable {
    /// The size of each dimension.
    let shape: [Int]
    /// For each dimension, how many elements lie from one index to the next.
    let strides: [Int]

    /// Takes as many strides as dimensions, none of them negative; nil for anything else.
    init?(shape: [Int], strides: [Int]) {
        guard shape.count == strides.count, (shape + strides).allSatisfy({ $0 >= 0 }) else {
            return nil
        }
        self.shape = shape
        self.strides = strides
    }

    /// The number of elements.
    var count: Int { shape.reduce(1, *) }

    /// How many elements of memory lie from the first to the last, both included.
    var span: Int {
        count == 0 ? 0 : zip(shape, strides).reduce(1) { $0 + ($1.0 - 1) * $1.1 }
    }

    /// Visits all elements in row-major order, as many at once as lie side by side.
    ///
    /// - Parameter body: Takes where the run begins in memory, the row-major index of its first
    ///   element, and its length, all counted in elements.
    func forEachRun(_ body: (_ start: Int, _ index: Int, _ length: Int) throws -> Void) rethrows {
        guard count > 0 else { return }
        let (length, outer) = run()
        var position = Array(repeating: 0, count: outer)
        var start = 0
        for index in stride(from: 0, to: count, by: length) {
            try body(start, index, length)
            for dimension in stride(from: outer - 1, through: 0, by: -1) {
                position[dimension] += 1
                start += strides[dimension]
                if position[dimension] < shape[dimension] { break }
                start -= shape[dimension] * strides[dimension]
                position[dimension] = 0
            }
        }
    }

    /// How many elements lie side by side, and how many dimensions are outside of that.
    private func run() -> (length: Int, outer: Int) {
        var length = 1
        var outer = shape.count
        while outer > 0, shape[outer - 1] == 1 || strides[outer - 1] == length {
            length *= shape[outer - 1]
            outer -= 1
        }
        return (length, outer)
    }
}
