import CoreML
import Foundation
import KDDiffusion
import KDNumerics

/// A model in memory. It blocks while it works, so it is used on a thread of its own only.
struct LoadedModel {
    /// What the model takes and gives.
    let ports: ModelPorts
    private let model: MLModel
    private let inputs: [String: ArrayElement]
    private let name: String

    /// Loads a compiled model.
    ///
    /// - Parameters:
    ///   - compiled: The `.mlmodelc`.
    ///   - name: What messages call it.
    ///   - units: What it may run on.
    /// - Throws: `CoreMLError.notLoaded`, or `.unfitInput` where it takes something else than
    ///   arrays.
    init(_ compiled: URL, name: String, units: ComputeUnits) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units.coreMLUnits
        do {
            model = try MLModel(contentsOf: compiled, configuration: configuration)
        } catch {
            throw CoreMLError.notLoaded(model: name, reason: error.localizedDescription)
        }
        self.name = name
        let description = model.modelDescription
        var inputs: [String: ArrayElement] = [:]
        for (port, feature) in description.inputDescriptionsByName {
            guard let type = feature.multiArrayConstraint?.dataType,
                let element = ArrayElement(type)
            else { throw CoreMLError.unfitInput(model: name, port: port) }
            inputs[port] = element
        }
        self.inputs = inputs
        ports = ModelPorts(
            inputs: inputs.keys.sorted(),
            outputs: description.outputDescriptionsByName.keys.sorted())
    }

    /// Runs the model once.
    ///
    /// - Parameter tensors: At least what it takes, by name.
    /// - Returns: All that it gives, by name.
    /// - Throws: `CoreMLError`.
    func run(_ tensors: [String: Tensor]) throws -> [String: Tensor] {
        var values: [String: Any] = [:]
        for (port, element) in inputs {
            guard let tensor = tensors[port] else {
                throw CoreMLError.missingInput(model: name, port: port)
            }
            let array = try failing { try tensor.multiArray(of: element, port: port, model: name) }
            values[port] = MLFeatureValue(multiArray: array)
        }
        let given = try failing {
            try model.prediction(from: MLDictionaryFeatureProvider(dictionary: values))
        }
        var results: [String: Tensor] = [:]
        for port in ports.outputs {
            guard let array = given.featureValue(for: port)?.multiArrayValue else {
                throw CoreMLError.unreadableOutput(model: name, port: port)
            }
            results[port] = try Tensor(array, port: port, model: name)
        }
        return results
    }

    /// Gives Core ML's own errors the name of the model.
    private func failing<Value>(_ work: () throws -> Value) throws -> Value {
        do { return try work() } catch let error as CoreMLError { throw error } catch {
            throw CoreMLError.notRun(model: name, reason: error.localizedDescription)
        }
    }
}
