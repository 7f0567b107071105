import Foundation

/// Why there is no such picture.
public enum PictureError: Error, Equatable, Sendable {
    /// A size that no picture has.
    case size(width: Int, height: Int)
    /// The bytes do not fill the size with three for each pixel.
    case bytes(Int, width: Int, height: Int)
    /// The decoder's output has another shape than `(n, 3, height, width)`, or no such row.
    case decoded(shape: [Int], row: Int)
}

extension PictureError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .size(let width, let height):
            "A picture cannot be \(width)x\(height) pixels; give sizes from 1 up."
        case .bytes(let count, let width, let height):
            "A picture of \(width)x\(height) pixels has three bytes for each, not \(count) in all; "
                + "convert it to 8-bit RGB."
        case .decoded(let shape, let row):
            "The decoder's output of the shape \(shape) holds no picture \(row); export the model "
                + "again."
        }
    }
}
