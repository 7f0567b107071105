import Foundation

/// Why tensors cannot be put together or taken apart.
public enum TensorError: Error, Equatable, Sendable {
    /// The shapes of two tensors do not fit each other.
    case shapes([Int], [Int])
    /// A dimension does not exist.
    case axis(Int, shape: [Int])
    /// A dimension cannot be split into that many equal parts.
    case parts(Int, axis: Int, shape: [Int])
    /// Rows were asked for that a tensor does not have.
    case rows(Range<Int>, shape: [Int])
    /// There is nothing to join.
    case empty
}

extension TensorError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .shapes(let first, let second):
            "The shapes \(first) and \(second) do not fit each other; export the model again."
        case .axis(let axis, let shape):
            "A tensor of the shape \(shape) has no dimension \(axis); export the model again."
        case .parts(let parts, let axis, let shape):
            "Dimension \(axis) of the shape \(shape) cannot be split into \(parts) equal parts; "
                + "export the model again."
        case .rows(let rows, let shape):
            "A tensor of the shape \(shape) has no rows \(rows.lowerBound) to "
                + "\(rows.upperBound - 1); export the model again."
        case .empty:
            "No tensors were given to join; give at least one."
        }
    }
}
