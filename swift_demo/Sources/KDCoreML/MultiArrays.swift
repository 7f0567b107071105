import CoreML
import Foundation
import KDNumerics

extension ArrayElement {
    /// The element of an array of Core ML; nil for 64 bits, which no bundle has.
    init?(_ type: MLMultiArrayDataType) {
        switch type {
        case .float16: self = .float16
        case .float32: self = .float32
        case .int32: self = .int32
        default: return nil
        }
    }

    /// The name that Core ML has for it.
    var coreMLType: MLMultiArrayDataType {
        switch self {
        case .float16: .float16
        case .float32: .float32
        case .int32: .int32
        }
    }
}

extension Tensor {
    /// Copies what a model gave.
    ///
    /// - Parameters:
    ///   - array: The array; its strides are heeded.
    ///   - port: The output, for the message.
    ///   - model: The model, for the message.
    /// - Throws: `CoreMLError.unreadableOutput` for elements of another type.
    init(_ array: MLMultiArray, port: String, model: String) throws {
        let layout = StridedLayout(
            shape: array.shape.map(\.intValue), strides: array.strides.map(\.intValue))
        guard let layout, let element = ArrayElement(array.dataType),
            let values = array.withUnsafeBytes({ element.read($0, layout: layout) })
        else { throw CoreMLError.unreadableOutput(model: model, port: port) }
        self.init(shape: layout.shape, values: values)
    }

    /// Makes the array that a model takes.
    ///
    /// - Parameters:
    ///   - element: The type of its elements; 16-bit ones are rounded to the nearest.
    ///   - port: The input, for the message.
    ///   - model: The model, for the message.
    /// - Throws: `CoreMLError.unfitInput` where integers are wanted and this has fractions; errors
    ///   of Core ML where there is no memory.
    func multiArray(of element: ArrayElement, port: String, model: String) throws -> MLMultiArray {
        let sizes = shape.map { NSNumber(value: $0) }
        let array = try MLMultiArray(shape: sizes, dataType: element.coreMLType)
        let written = array.withUnsafeMutableBytes { memory, strides in
            guard let layout = StridedLayout(shape: shape, strides: strides) else { return false }
            return element.write(values, to: memory, layout: layout)
        }
        guard written else { throw CoreMLError.unfitInput(model: model, port: port) }
        return array
    }
}
