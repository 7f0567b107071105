import Foundation

// What `KDCoreML` uses of Apple's Core ML, so that it can be type-checked where there is none.
// Nothing here runs: every body stops the program. None of the classes is Sendable, which is at
// least as strict as Apple's headers are.

/// A loaded model.
public class MLModel {
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws { absent() }
    public var modelDescription: MLModelDescription { absent() }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        absent()
    }
    public class func compileModel(at modelURL: URL) async throws -> URL { absent() }
}

/// How a model is loaded.
public class MLModelConfiguration {
    public init() { absent() }
    public var computeUnits: MLComputeUnits {
        get { absent() }
        set { absent() }
    }
}

/// What a model may run on.
public enum MLComputeUnits: Int {
    case cpuOnly = 0
    case cpuAndGPU = 1
    case all = 2
    case cpuAndNeuralEngine = 3
}

/// What a model takes and gives.
public class MLModelDescription {
    public var inputDescriptionsByName: [String: MLFeatureDescription] { absent() }
    public var outputDescriptionsByName: [String: MLFeatureDescription] { absent() }
}

/// One input or output.
public class MLFeatureDescription {
    public var multiArrayConstraint: MLMultiArrayConstraint? { absent() }
}

/// What an array must be.
public class MLMultiArrayConstraint {
    public var shape: [NSNumber] { absent() }
    public var dataType: MLMultiArrayDataType { absent() }
}

func absent() -> Never {
    fatalError("Core ML exists on Apple's systems only.")
}
