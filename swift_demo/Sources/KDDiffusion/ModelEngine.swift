import Foundation
import KDNumerics

/// What runs the models of a bundle: Core ML on Apple's systems, anything else in tests.
public protocol ModelEngine: Sendable {
    /// Makes the runner of one model; nothing is loaded yet.
    ///
    /// - Parameters:
    ///   - file: The model, an `.mlpackage` or `.mlmodelc`.
    ///   - component: The component that it is, or a chunk of.
    func runner(for file: URL, component: Component) throws -> any ModelRunner
}

/// One model file, loaded and freed any number of times.
public protocol ModelRunner: Sendable {
    /// Loads the model; does nothing where it is loaded already.
    func load() async throws
    /// Frees the model; does nothing where it is not loaded.
    func unload() async
    /// The names of what the loaded model takes and gives.
    func ports() async throws -> ModelPorts
    /// Runs the model once. All tensors are in 32 bits here; the runner converts them to what the
    /// model takes.
    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor]
}

/// The names of a model's inputs and outputs.
public struct ModelPorts: Sendable, Equatable {
    public let inputs: [String]
    public let outputs: [String]

    public init(inputs: [String], outputs: [String]) {
        self.inputs = inputs
        self.outputs = outputs
    }
}
