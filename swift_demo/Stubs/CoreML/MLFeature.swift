import Foundation

/// Values by name.
public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

/// Values by name, from a dictionary.
public class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws { absent() }
    public var featureNames: Set<String> { absent() }
    public func featureValue(for featureName: String) -> MLFeatureValue? { absent() }
}

/// One value.
public class MLFeatureValue {
    public init(multiArray value: MLMultiArray) { absent() }
    public var multiArrayValue: MLMultiArray? { absent() }
}

/// The type of the elements of an array.
public enum MLMultiArrayDataType: Int {
    case float16 = 0x10010
    case float32 = 0x10020
    case double = 0x10040
    case int32 = 0x20020
}

/// An array.
public class MLMultiArray {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws { absent() }
    public var dataType: MLMultiArrayDataType { absent() }
    public var shape: [NSNumber] { absent() }
    public var strides: [NSNumber] { absent() }
    public func withUnsafeBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws -> R
    ) rethrows -> R {
        absent()
    }
    public func withUnsafeMutableBytes<R>(
        _ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R
    ) rethrows -> R {
        absent()
    }
}
