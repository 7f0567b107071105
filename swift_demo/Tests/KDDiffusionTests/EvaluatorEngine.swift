import Foundation
import KDDiffusion
import KDNumerics

/// Runs packages in another process, `scripts/swift_evaluator.py`, which needs no Core ML.
final class EvaluatorEngine: ModelEngine {
    private let evaluator: Evaluator
    private let root: URL

    /// - Parameters:
    ///   - folder: Where the evaluator's pipes are.
    ///   - root: The folder that the evaluator was given.
    init(folder: URL, root: URL) throws {
        evaluator = Evaluator(try Pipes(folder: folder))
        self.root = root
    }

    func runner(for file: URL, component: Component) throws -> any ModelRunner {
        let path = String(file.path.dropFirst(root.path.count + 1))
        return EvaluatorRunner(evaluator: evaluator, model: path)
    }
}

private actor EvaluatorRunner: ModelRunner {
    private let evaluator: Evaluator
    private let model: String
    private var loaded: ModelPorts?

    init(evaluator: Evaluator, model: String) {
        self.evaluator = evaluator
        self.model = model
    }

    func load() async throws {
        guard loaded == nil else { return }
        let reply = try await evaluator.ask("open", model).0
        loaded = ModelPorts(inputs: reply.inputs ?? [], outputs: reply.outputs ?? [])
    }

    func unload() async {
        guard loaded != nil else { return }
        loaded = nil
        _ = try? await evaluator.ask("close", model)
    }

    func ports() async throws -> ModelPorts {
        guard let loaded else { throw Pipes.Failure(description: "'\(model)' is not loaded.") }
        return loaded
    }

    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        try await evaluator.ask("run", model, inputs).1
    }
}

/// The messages of `scripts/swift_evaluator.py`, one at a time.
private actor Evaluator {
    struct Shape: Codable {
        let name: String
        let shape: [Int]
    }

    struct Request: Encodable {
        let `do`: String
        let model: String
        let tensors: [Shape]
    }

    struct Reply: Decodable {
        let inputs: [String]?
        let outputs: [String]?
        let error: String?
        let tensors: [Shape]
    }

    private let pipes: Pipes

    init(_ pipes: Pipes) {
        self.pipes = pipes
    }

    func ask(
        _ what: String, _ model: String, _ tensors: [String: Tensor] = [:]
    ) throws -> (Reply, [String: Tensor]) {
        let named = Array(tensors)
        let shapes = named.map { Shape(name: $0.key, shape: $0.value.shape) }
        let header = try JSONEncoder().encode(Request(do: what, model: model, tensors: shapes))
        try pipes.write(Array(header) + [UInt8(ascii: "\n")])
        for (_, tensor) in named {
            try pipes.write(tensor.values.withUnsafeBytes { Array($0) })
        }
        let reply = try JSONDecoder().decode(Reply.self, from: Data(try pipes.readLine()))
        if let error = reply.error { throw Pipes.Failure(description: error) }
        var results: [String: Tensor] = [:]
        for each in reply.tensors {
            let bytes = try pipes.read(4 * each.shape.reduce(1, *))
            let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            results[each.name] = Tensor(shape: each.shape, values: values)
        }
        return (reply, results)
    }
}
