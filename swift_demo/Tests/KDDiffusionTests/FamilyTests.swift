import KDNumerics
import XCTest

@testable import KDDiffusion

/// What distinguishes the families of models: SDXL, ControlNets, guidance embeddings, chunks.
final class FamilyTests: XCTestCase {
    func testTwoTextEncodersAndSizes() async throws {
        let fake = try FakeBundle(for: self)
        let second = FakeBundle.component(
            "text_encoder_2", "Text2", inputs: [FakeBundle.tensor("input_ids", [1, 4])],
            outputs: [
                FakeBundle.tensor("hidden_embeds", [1, 4, 2]),
                FakeBundle.tensor("unskipped", [1, 4, 2]), FakeBundle.tensor("pooled", [1, 5]),
            ],
            ports: [
                "input_ids": "input_ids", "hidden_embeds": "h", "unskipped": "n", "pooled": "p",
            ])
        var text = FakeBundle.text(role: "text_encoder_2", hidden: "h", pooled: "p")
        text["negative_output"] = "n"
        fake.manifest["family"] = "sdxl"
        fake.manifest["text"] = [
            FakeBundle.text(role: "text_encoder", hidden: "last_hidden_state"), text,
        ]
        let unet = unet(
            text: [2, 5, 1, 4], more: ["text_embeds": [2, 5], "time_ids": [2, 6]])
        fake.manifest["components"] = [
            FakeBundle.textEncoder, second, unet, FakeBundle.decoder,
        ]
        let engine = FakeEngine { component, inputs in
            var outputs = try await FakeEngine.numbers(component, inputs)
            outputs["hidden_embeds"] = Tensor(repeating: 7, shape: [1, 4, 2])
            outputs["unskipped"] = Tensor(repeating: 8, shape: [1, 4, 2])
            return outputs
        }
        try await draw(fake, engine)
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(
            calls[0]["time_ids"]?.values, [16, 16, 0, 0, 16, 16, 16, 16, 0, 0, 16, 16])
        XCTAssertEqual(calls[0]["text_embeds"]?.shape, [2, 5])
        // The second encoder's channels come last: first the negative row, then the prompt's.
        let hidden = try XCTUnwrap(calls[0]["encoder_hidden_states"]?.values)
        XCTAssertEqual(hidden[12..<20], [8, 8, 8, 8, 8, 8, 8, 8])
        XCTAssertEqual(hidden[32..<40], [7, 7, 7, 7, 7, 7, 7, 7])
    }

    func testAGuidanceEmbedding() async throws {
        let fake = try FakeBundle(for: self)
        fake.manifest["guidance_embedding"] = 8
        fake.manifest["components"] = [
            FakeBundle.textEncoder, unet(more: ["timestep_cond": [2, 8]]), FakeBundle.decoder,
        ]
        let engine = FakeEngine()
        try await draw(fake, engine)
        let calls = await engine.log.calls(of: "Unet")
        let row = guidanceEmbedding(2, size: 8)
        XCTAssertEqual(calls[0]["timestep_cond"]?.values, row + row)
        let texts = await engine.log.calls(of: "Text")
        XCTAssertEqual(texts.count, 1)
    }

    func testAControlNet() async throws {
        let fake = try FakeBundle(for: self)
        var net = FakeBundle.component(
            "controlnet", "Control",
            inputs: [
                FakeBundle.tensor("sample", [2, 4, 2, 2]), FakeBundle.tensor("timestep", [2]),
                FakeBundle.tensor("controlnet_cond", [2, 3, 16, 16]),
            ],
            outputs: [FakeBundle.tensor("residual_0", [2, 4])],
            ports: [
                "sample": "sample", "timestep": "timestep", "controlnet_cond": "controlnet_cond",
                "residual_0": "mid",
            ])
        net["residual_scale"] = 0.5
        var unet = unet(more: ["additional": [2, 4]])
        unet["ports"] = (unet["ports"] as? [String: String])?.merging(["additional": "mid"]) { $1 }
        fake.manifest["components"] = [FakeBundle.textEncoder, unet, FakeBundle.decoder, net]
        fake.manifest["control"] = ["scale": 1.5, "invert": true, "channels": 3]
        let engine = FakeEngine { component, inputs in
            if component.role == .controlnet {
                return ["residual_0": Tensor(repeating: 2, shape: [2, 4])]
            }
            return try await FakeEngine.numbers(component, inputs)
        }
        let white = try plain(32, 32, [255, 255, 255])
        try await draw(fake, engine) { $0.control = [white] }
        let controls = await engine.log.calls(of: "Control")
        XCTAssertEqual(
            controls[0]["controlnet_cond"], Tensor(repeating: 0, shape: [2, 3, 16, 16]))
        // 1.5 is the default of the bundle, of which the package itself has a half.
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(calls[0]["additional"], Tensor(repeating: 6, shape: [2, 4]))
        await expect(KDError.request(.controlMissing)) { try await draw(fake, engine) }
        await expect(KDError.request(.controlPictures(given: 2, prompts: 1))) {
            try await draw(fake, engine) { $0.control = [white, white] }
        }
    }

    func testChunksRunOneAfterTheOther() async throws {
        let fake = try FakeBundle(for: self)
        var unet = FakeBundle.unet
        unet["chunks"] = ["Unet.mlpackage", "Control.mlpackage"]
        fake.manifest["components"] = [FakeBundle.textEncoder, unet, FakeBundle.decoder]
        let ports = [
            "Unet": ModelPorts(inputs: ["sample", "timestep"], outputs: ["middle"]),
            "Control": ModelPorts(
                inputs: ["timestep", "middle", "encoder_hidden_states"], outputs: ["noise_pred"]),
        ]
        let engine = FakeEngine(ports: ports) { component, inputs in
            if component.role == .unet, inputs["middle"] == nil {
                return ["middle": Tensor(repeating: 3, shape: [2, 9])]
            }
            return try await FakeEngine.numbers(component, inputs)
        }
        try await draw(fake, engine)
        let (first, second) = await (engine.log.calls(of: "Unet"), engine.log.calls(of: "Control"))
        XCTAssertEqual(first[0].keys.sorted(), ["sample", "timestep"])
        XCTAssertEqual(second[0].keys.sorted(), ["encoder_hidden_states", "middle", "timestep"])
        XCTAssertEqual(second[0]["middle"], Tensor(repeating: 3, shape: [2, 9]))
    }

    func testATinyEncoderGivesTheMeanOnly() async throws {
        let fake = try FakeBundle(for: self)
        var encoder = FakeBundle.encoder
        encoder["ports"] = ["x": "sample", "latent": "latent_sample"]
        fake.manifest["components"] = [
            FakeBundle.textEncoder, FakeBundle.unet, FakeBundle.decoder, encoder,
        ]
        let latents = Tensor(shape: [1, 8, 2, 2], values: (0..<32).map(Float.init))
        let engine = FakeEngine { component, inputs in
            if component.role == .vaeEncoder { return ["latent": latents] }
            return try await FakeEngine.numbers(component, inputs)
        }
        let start = try plain(16, 16)
        try await draw(fake, engine) { ($0.initial, $0.strength, $0.seed) = (start, 1, 3) }
        var noise = TorchNoise(seed: 3)
        // Signal and noise of the start, and the scaling factor, are all 0.5.
        let expected = noise.normal([1, 4, 2, 2]).values.enumerated().map {
            0.5 * (0.5 * Float($0.offset)) + 0.5 * $0.element
        }
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(try calls[0]["sample"]?.row(0).values, expected)
    }

    func testAnInputThatNothingFeeds() async throws {
        let fake = try FakeBundle(for: self)
        fake.manifest["components"] = [
            FakeBundle.textEncoder, unet(more: ["style": [2, 2]]), FakeBundle.decoder,
        ]
        await expect(KDError.unknownInput("style", file: "Unet.mlpackage")) {
            try await draw(fake, FakeEngine())
        }
    }

    /// The U-Net of the fake bundle with other text embeddings and more inputs.
    private func unet(text: [Int] = [2, 3, 1, 4], more: [String: [Int]]) -> [String: Any] {
        var unet = FakeBundle.unet
        var inputs = [
            FakeBundle.tensor("sample", [2, 4, 2, 2]), FakeBundle.tensor("timestep", [2]),
            FakeBundle.tensor("encoder_hidden_states", text),
        ]
        var ports = unet["ports"] as? [String: String] ?? [:]
        for (name, shape) in more {
            inputs.append(FakeBundle.tensor(name, shape))
            ports[name] = name
        }
        unet["inputs"] = inputs
        unet["ports"] = ports
        return unet
    }

    private func draw(
        _ fake: FakeBundle, _ engine: FakeEngine, _ ask: (inout Request) -> Void = { _ in }
    ) async throws {
        var request = Request(prompt: "a")
        ask(&request)
        let pipeline = try DiffusionPipeline(bundle: try fake.open(), engine: engine)
        _ = try await pipeline.outcome(of: request)
    }
}
