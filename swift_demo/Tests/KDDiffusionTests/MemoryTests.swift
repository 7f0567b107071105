import KDNumerics
import XCTest

@testable import KDDiffusion

/// When models are loaded and freed.
final class MemoryTests: XCTestCase {
    func testModelsStayLoaded() async throws {
        let (pipeline, engine) = try make(reduced: false)
        try await pipeline.load()
        var loaded = await engine.log.loaded
        XCTAssertEqual(loaded, ["Text", "Unet", "Decoder"])
        _ = try await pipeline.outcome(of: Request(prompt: "a"))
        loaded = await engine.log.loaded
        XCTAssertEqual(loaded, ["Text", "Unet", "Decoder"])
        let events = await engine.log.events
        XCTAssertEqual(events.filter { $0.hasPrefix("load") }.count, 3)
        await pipeline.unload()
        loaded = await engine.log.loaded
        XCTAssertEqual(loaded, [])
    }

    func testReducedMemoryHoldsOneModelAtATime() async throws {
        let (pipeline, engine) = try make(reduced: true)
        try await pipeline.load()
        let before = await engine.log.events
        XCTAssertEqual(before, [])
        _ = try await pipeline.outcome(of: Request(prompt: "a"))
        let events = await engine.log.events
        XCTAssertEqual(
            events,
            [
                "load Text", "run Text", "run Text", "unload Text", "load Unet", "run Unet",
                "run Unet", "unload Unet", "load Decoder", "run Decoder", "unload Decoder",
            ])
        let most = await engine.log.mostLoaded
        XCTAssertEqual(most, 1)
    }

    func testReducedMemoryFreesAfterAnError() async throws {
        let (pipeline, engine) = try make(reduced: true) { component, inputs in
            if component.role == .unet { throw Broken() }
            return try await FakeEngine.numbers(component, inputs)
        }
        await expect(Broken()) { _ = try await pipeline.outcome(of: Request(prompt: "a")) }
        let loaded = await engine.log.loaded
        XCTAssertEqual(loaded, [])
    }

    func testPrewarmLoadsAndFreesEachModel() async throws {
        let (pipeline, engine) = try make(reduced: false)
        try await pipeline.prewarm()
        let events = await engine.log.events
        XCTAssertEqual(
            events,
            ["Text", "Unet", "Decoder", "Encoder"].flatMap { ["load \($0)", "unload \($0)"] })
    }

    func testAModelThatIsNotTheOneOfTheManifest() async throws {
        let engine = OddEngine()
        let bundle = try FakeBundle(for: self).open()
        let pipeline = try DiffusionPipeline(bundle: bundle, engine: engine)
        let expected = ModelPorts(inputs: ["input_ids"], outputs: ["last_hidden_state"])
        let found = ModelPorts(inputs: ["ids"], outputs: ["states"])
        await expect(
            KDError.wrongPorts(file: "Text.mlpackage", expected: expected, found: found)
        ) { try await pipeline.load() }
    }

    private func make(
        reduced: Bool, _ body: @escaping FakeEngine.Body = FakeEngine.numbers
    ) throws -> (DiffusionPipeline, FakeEngine) {
        let engine = FakeEngine(body)
        let pipeline = try DiffusionPipeline(
            bundle: try FakeBundle(for: self).open(), engine: engine,
            options: PipelineOptions(reducedMemory: reduced))
        return (pipeline, engine)
    }
}

private struct Broken: Error, Equatable {}

/// Its models have other inputs and outputs than any manifest says.
private struct OddEngine: ModelEngine {
    func runner(for file: URL, component: Component) throws -> any ModelRunner { OddRunner() }
}

private struct OddRunner: ModelRunner {
    func load() async throws {}
    func unload() async {}
    func ports() async throws -> ModelPorts { ModelPorts(inputs: ["ids"], outputs: ["states"]) }
    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] { [:] }
}
