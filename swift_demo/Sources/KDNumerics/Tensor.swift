/// A dense array of 32-bit floating-point numbers in row-major order.
public struct Tensor: Sendable, Equatable {
    /// The size of each dimension.
    public let shape: [Int]
    /// The elements; the last dimension varies fastest.
    public let values: [Float]

    /// Makes a tensor of given elements; there must be as many as the shape says.
    public init(shape: [Int], values: [Float]) {
        precondition(shape.reduce(1, *) == values.count, "The elements do not fill the shape.")
        self.shape = shape
        self.values = values
    }

    /// Makes a tensor whose elements are all the same.
    public init(repeating value: Float, shape: [Int]) {
        self.init(shape: shape, values: Array(repeating: value, count: shape.reduce(1, *)))
    }

    /// The size of the first dimension; 1 where there is none.
    public var rows: Int { shape.first ?? 1 }

    /// Whether no element is NaN or infinite.
    public var isFinite: Bool { values.allSatisfy(\.isFinite) }

    /// The same elements in another shape, which must hold as many.
    public func reshaped(_ shape: [Int]) -> Tensor {
        Tensor(shape: shape, values: values)
    }
}
