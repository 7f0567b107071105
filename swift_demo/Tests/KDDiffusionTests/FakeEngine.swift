import Foundation
import KDDiffusion
import KDNumerics

/// Runs models that a closure stands for, and writes down what is done with them.
final class FakeEngine: ModelEngine {
    /// The outputs of a model, by the names of the package.
    typealias Body = @Sendable (Component, [String: Tensor]) async throws -> [String: Tensor]

    let log = Log()
    private let body: Body
    private let ports: [String: ModelPorts]

    /// - Parameters:
    ///   - ports: Inputs and outputs by the model's name, where they are not those of the manifest.
    ///   - body: What the models give.
    init(ports: [String: ModelPorts] = [:], _ body: @escaping Body = FakeEngine.numbers) {
        self.body = body
        self.ports = ports
    }

    func runner(for file: URL, component: Component) throws -> any ModelRunner {
        let name = file.deletingPathExtension().lastPathComponent
        let ofManifest = ModelPorts(
            inputs: component.inputs.map(\.name), outputs: component.outputs.map(\.name))
        return FakeRunner(
            name: name, component: component, log: log, body: body,
            known: ports[name] ?? ofManifest)
    }

    /// Outputs of the shapes that the manifest says, which depend on the inputs.
    static let numbers: Body = { component, inputs in
        let sum = inputs.values.reduce(Float(0)) { total, tensor in
            total + tensor.values.reduce(0) { ($0 * 0.5 + $1).truncatingRemainder(dividingBy: 4) }
        }
        return Dictionary(
            uniqueKeysWithValues: component.outputs.map { spec in
                let shape = spec.shape.compactMap(\.size)
                let count = shape.reduce(1, *)
                return (
                    spec.name,
                    Tensor(
                        shape: shape,
                        values: (0..<count).map { Float($0 % 7) * 0.25 - 0.75 + sum * 0.0625 })
                )
            })
    }
}

/// What was done with the models, in order.
actor Log {
    struct Call: Sendable {
        let model: String
        let inputs: [String: Tensor]
    }

    private(set) var events: [String] = []
    private(set) var calls: [Call] = []
    private(set) var loaded: Set<String> = []
    private(set) var mostLoaded = 0

    func load(_ name: String) {
        guard loaded.insert(name).inserted else { return }
        events.append("load \(name)")
        mostLoaded = max(mostLoaded, loaded.count)
    }

    func unload(_ name: String) {
        if loaded.remove(name) != nil { events.append("unload \(name)") }
    }

    func run(_ name: String, _ inputs: [String: Tensor]) {
        events.append("run \(name)")
        calls.append(Call(model: name, inputs: inputs))
    }

    func calls(of model: String) -> [[String: Tensor]] {
        calls.filter { $0.model == model }.map(\.inputs)
    }
}

private struct FakeRunner: ModelRunner {
    let name: String
    let component: Component
    let log: Log
    let body: FakeEngine.Body
    let known: ModelPorts

    func load() async throws { await log.load(name) }

    func unload() async { await log.unload(name) }

    func ports() async throws -> ModelPorts { known }

    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        await log.run(name, inputs)
        return try await body(component, inputs)
    }
}
