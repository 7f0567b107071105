import KDNumerics
import XCTest

@testable import KDDiffusion

/// What is fed to the models and reported, with models that are closures.
final class GenerationTests: XCTestCase {
    func testEventsComeInOrder() async throws {
        let (pipeline, _) = try make()
        var kinds: [String] = []
        for try await event in pipeline.generate(Request(prompt: "a")) {
            switch event {
            case .started: kinds.append("started")
            case .step(let report): kinds.append("step \(report.index) of \(report.total)")
            case .finished(let pictures, _): kinds.append("\(pictures.count) picture")
            }
        }
        XCTAssertEqual(kinds, ["started", "step 0 of 2", "step 1 of 2", "1 picture"])
    }

    func testTheSameSeedDrawsTheSame() async throws {
        let (pipeline, _) = try make()
        var request = Request(prompt: "a")
        request.seed = 5
        let first = try await pipeline.outcome(of: request)
        let second = try await pipeline.outcome(of: request)
        XCTAssertEqual(first.pictures, second.pictures)
        request.seed = 6
        let third = try await pipeline.outcome(of: request)
        XCTAssertNotEqual(first.steps[0].latents, third.steps[0].latents)
    }

    func testGuidanceFeedsNegativeRowsFirst() async throws {
        let (pipeline, engine) = try make()
        var request = Request(prompt: "a")
        request.negativePrompts = ["b"]
        _ = try await pipeline.outcome(of: request)
        let texts = await engine.log.calls(of: "Text").map { $0["input_ids"]?.values }
        XCTAssertEqual(texts, [[0, 3, 1, 1], [0, 2, 1, 1]])
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(calls.count, 2)
        let sample = try XCTUnwrap(calls[0]["sample"])
        XCTAssertEqual(try sample.row(0), try sample.row(1))
        XCTAssertEqual(calls[0]["timestep"]?.values, [900, 900])
        XCTAssertEqual(calls[1]["timestep"]?.values, [800, 800])
        let hidden = try XCTUnwrap(calls[0]["encoder_hidden_states"])
        XCTAssertEqual(hidden.shape, [2, 3, 1, 4])
        XCTAssertNotEqual(try hidden.row(0), try hidden.row(1))
    }

    func testZeroEmbeddings() async throws {
        let (pipeline, engine) = try make { $0.manifest["zero_negative"] = true }
        _ = try await pipeline.outcome(of: Request(prompt: "a"))
        let texts = await engine.log.calls(of: "Text")
        XCTAssertEqual(texts.count, 1)
        let calls = await engine.log.calls(of: "Unet")
        let hidden = try XCTUnwrap(calls[0]["encoder_hidden_states"])
        XCTAssertTrue(try hidden.row(0).values.allSatisfy { $0 == 0 })
    }

    func testOneRowIsFilledUpToTheRowsOfThePackage() async throws {
        let (pipeline, engine) = try make()
        var request = Request(prompt: "a")
        request.guidance = 1
        request.imagesPerPrompt = 3
        let outcome = try await pipeline.outcome(of: request)
        let samples = await engine.log.calls(of: "Unet").compactMap { $0["sample"] }
        XCTAssertEqual(samples.count, 4)
        XCTAssertEqual(try samples[1].row(0), try samples[1].row(1))
        XCTAssertEqual(outcome.pictures.count, 3)
        XCTAssertEqual(outcome.steps[1].latents.shape, [3, 4, 2, 2])
    }

    func testAPackageOfOneRowRunsTwiceForGuidance() async throws {
        let (pipeline, engine) = try make { fake in
            var unet = FakeBundle.unet
            unet["inputs"] = [
                FakeBundle.tensor("sample", [1, 4, 2, 2]), FakeBundle.tensor("timestep", [1]),
                FakeBundle.tensor("encoder_hidden_states", [1, 3, 1, 4]),
            ]
            unet["outputs"] = [FakeBundle.tensor("noise_pred", [1, 4, 2, 2])]
            fake.manifest["components"] = [FakeBundle.textEncoder, unet, FakeBundle.decoder]
        }
        _ = try await pipeline.outcome(of: Request(prompt: "a"))
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(calls.count, 4)
    }

    func testGivenLatentsAreWhereItStarts() async throws {
        let (pipeline, engine) = try make()
        var request = Request(prompt: "a")
        request.latents = Tensor(repeating: 0.25, shape: [1, 4, 2, 2])
        _ = try await pipeline.outcome(of: request)
        let calls = await engine.log.calls(of: "Unet")
        XCTAssertEqual(calls[0]["sample"]?.values.first, 0.25)
    }

    func testAPictureIsEncodedOnceForAllImages() async throws {
        let (pipeline, engine) = try make()
        var request = Request(prompt: "a")
        request.initial = try plain(16, 16, [255, 255, 255])
        request.imagesPerPrompt = 2
        request.strength = 1
        _ = try await pipeline.outcome(of: request)
        let encodings = await engine.log.calls(of: "Encoder")
        XCTAssertEqual(encodings.count, 1)
        XCTAssertEqual(encodings[0]["x"], Tensor(repeating: 1, shape: [1, 3, 16, 16]))
    }

    func testPreviewsComeWhenAsked() async throws {
        let (pipeline, _) = try make()
        var request = Request(prompt: "a")
        request.steps = 3
        request.imagesPerPrompt = 2
        let without = try await pipeline.outcome(of: request)
        XCTAssertTrue(without.steps.allSatisfy { $0.preview == nil })
        request.previews = .every(1)
        let each = try await pipeline.outcome(of: request)
        XCTAssertEqual(each.steps.map { $0.preview != nil }, [true, true, false])
        XCTAssertEqual(each.steps[0].preview?.width, 16)
        request.previews = .every(2)
        let some = try await pipeline.outcome(of: request)
        XCTAssertEqual(some.steps.map { $0.preview != nil }, [false, true, false])
    }

    func testNoNumbersAreAnErrorThatNamesTheComponent() async throws {
        for (name, role, call) in [
            ("text_encoder", Component.Role.textEncoder, nil), ("unet", .unet, 2),
            ("vae_decoder", .vaeDecoder, nil),
        ] as [(String, Component.Role, Int?)] {
            let (pipeline, _) = try make { component, inputs in
                let late = inputs["timestep"]?.values.first == 900
                let value: Float = component.role.rawValue == name && !late ? .nan : 1
                return try await FakeEngine.numbers(component, inputs)
                    .mapValues { value.isNaN ? $0.map { _ in .nan } : $0 }
            }
            await expect(KDError.notFinite(role, call: call)) {
                _ = try await pipeline.outcome(of: Request(prompt: "a"))
            }
        }
    }

    func testAWrongShapeIsAnError() async throws {
        let (pipeline, _) = try make { component, inputs in
            var outputs = try await FakeEngine.numbers(component, inputs)
            if component.role == .unet {
                outputs["noise_pred"] = Tensor(repeating: 0, shape: [2, 4])
            }
            return outputs
        }
        let error = KDError.wrongShape(
            "noise_pred", file: "Unet.mlpackage", expected: "[2, 4, 2, 2]", found: [2, 4])
        await expect(error) { _ = try await pipeline.outcome(of: Request(prompt: "a")) }
    }

    private func make(
        _ body: @escaping FakeEngine.Body = FakeEngine.numbers
    ) throws -> (DiffusionPipeline, FakeEngine) {
        let engine = FakeEngine(body)
        let bundle = try FakeBundle(for: self).open()
        return (try DiffusionPipeline(bundle: bundle, engine: engine), engine)
    }

    private func make(
        _ change: (FakeBundle) -> Void
    ) throws -> (DiffusionPipeline, FakeEngine) {
        let (fake, engine) = (try FakeBundle(for: self), FakeEngine())
        change(fake)
        return (try DiffusionPipeline(bundle: try fake.open(), engine: engine), engine)
    }
}
