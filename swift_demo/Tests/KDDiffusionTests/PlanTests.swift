import KDNumerics
import XCTest

@testable import KDDiffusion

final class PlanTests: XCTestCase {
    func testDefaults() async throws {
        let plan = try await plan(Request(prompt: "a"))
        XCTAssertEqual(plan.steps, 2)
        XCTAssertEqual(plan.guidance, 2)
        XCTAssertEqual(plan.negatives, [""])
        XCTAssertEqual(plan.size, PixelSize(width: 16, height: 16))
        XCTAssertEqual(plan.latentShape, [1, 4, 2, 2])
        XCTAssertEqual(plan.strength, 1)
        XCTAssertTrue(plan.isGuided)
        XCTAssertLessThan(plan.seed, 1 << 32)
    }

    func testNegativePrompts() async throws {
        var request = Request(prompts: ["a", "b"])
        request.negativePrompts = ["b"]
        let negatives = try await plan(request).negatives
        XCTAssertEqual(negatives, ["b", "b"])
        request.guidance = 1
        let unguided = try await plan(request).negatives
        XCTAssertNil(unguided)
        let zero = try await plan(Request(prompt: "a")) { $0.manifest["zero_negative"] = true }
        XCTAssertNil(zero.negatives)
        XCTAssertTrue(zero.isGuided)
    }

    func testAGuidanceEmbeddingNeedsNoSecondRow() async throws {
        let plan = try await plan(Request(prompt: "a")) { $0.manifest["guidance_embedding"] = 8 }
        XCTAssertFalse(plan.isGuided)
        XCTAssertNil(plan.negatives)
        XCTAssertEqual(plan.guidanceSize, 8)
    }

    func testWhatIsCutOffIsSaid() async throws {
        var request = Request(prompt: "a b a")
        request.negativePrompts = ["a b"]
        let plan = try await plan(request)
        XCTAssertEqual(plan.truncations, [Truncation(text: "a b a", removed: "a")])
    }

    func testAPictureSetsTheStrengthAndIsResized() async throws {
        var request = Request(prompt: "a")
        request.initial = try plain(40, 20)
        request.steps = 3
        let plan = try await plan(request)
        XCTAssertEqual(plan.strength, 0.8)
        XCTAssertEqual(plan.skipped, 1)
        XCTAssertEqual(plan.initial?.width, 16)
    }

    func testSizes() async throws {
        let several: (FakeBundle) -> Void = {
            $0.set(
                ["shapes"],
                [
                    "multiple": 8, "height": NSNull(), "width": NSNull(), "batch": NSNull(),
                    "sizes": [[16, 16], [32, 16]],
                ])
        }
        var request = Request(prompt: "a")
        request.height = 32
        let plan = try await plan(request, several)
        XCTAssertEqual(plan.size, PixelSize(width: 16, height: 32))
        request.height = 24
        let allowed = [PixelSize(width: 16, height: 16), PixelSize(width: 16, height: 32)]
        try await refused(
            .size(PixelSize(width: 16, height: 24), allowed: allowed), request, several)
        try await refused(
            .size(PixelSize(width: 16, height: 24), allowed: [PixelSize(width: 16, height: 16)]),
            request)
    }

    func testProblemsOfTheRequestItself() async throws {
        try await refused(.noPrompt, Request(prompts: []))
        try await refused(.negativePrompts(given: 3, prompts: 1)) {
            $0.negativePrompts = ["", "", ""]
        }
        try await refused(.tooSmall(field: "steps", value: 0)) { $0.steps = 0 }
        try await refused(.tooSmall(field: "imagesPerPrompt", value: -1)) {
            $0.imagesPerPrompt = -1
        }
        try await refused(.tooLarge(field: "height", value: .max)) { $0.height = .max }
        try await refused(.tooManyImages(.max)) { $0.imagesPerPrompt = .max }
        try await refused(.tooManyImages(1001)) { $0.imagesPerPrompt = 1001 }
        try await refused(.notFinite(field: "guidance")) { $0.guidance = .nan }
        try await refused(.previewInterval(0)) { $0.previews = .every(0) }
        try await refused(.strengthWithoutPicture) { $0.strength = 0.5 }
        let picture = try plain(16, 16)
        try await refused(.strength(0)) { ($0.initial, $0.strength) = (picture, 0) }
        try await refused(.latentsAndPicture) {
            ($0.initial, $0.latents) = (picture, Tensor(repeating: 0, shape: [1, 4, 2, 2]))
        }
        try await refused(.latents(shape: [1, 4], expected: [1, 4, 2, 2])) {
            $0.latents = Tensor(repeating: 0, shape: [1, 4])
        }
        try await refused(.latentsNotFinite) {
            $0.latents = Tensor(repeating: .infinity, shape: [1, 4, 2, 2])
        }
    }

    func testProblemsWithTheBundle() async throws {
        let picture = try plain(16, 16)
        try await refused(.scheduler("ddim", allowed: ["default"])) { $0.scheduler = "ddim" }
        try await refused(.noControlNet) { $0.control = [picture] }
        try await refused(.noControlNet) { $0.controlScale = 1 }
        try await refused(.noStepLeft(strength: 0.3, steps: 3)) {
            ($0.initial, $0.strength, $0.steps) = (picture, 0.3, 3)
        }
        try await refused(.rows(needed: 2, taken: 1), Request(prompt: "a")) {
            $0.set(["shapes", "batch"], 1)
        }
        var start = Request(prompt: "a")
        start.initial = picture
        try await refused(.noEncoder, start) {
            $0.manifest["components"] = [
                FakeBundle.textEncoder, FakeBundle.unet, FakeBundle.decoder,
            ]
        }
    }

    func testStepsThatHaveNoTable() async throws {
        var request = Request(prompt: "a")
        request.steps = 4
        await expect(SamplerError.steps(4, scheduler: "default", available: [1, 2, 3])) {
            _ = try await plan(request)
        }
        request.steps = 2
        request.strength = 0.5
        request.initial = try plain(16, 16)
        await expect(SamplerError.start(2, of: 2, scheduler: "default")) {
            _ = try await plan(request)
        }
    }

    private func plan(
        _ request: Request, _ change: (FakeBundle) -> Void = { _ in }
    ) async throws -> Plan {
        let fake = try FakeBundle(for: self)
        change(fake)
        let pipeline = try DiffusionPipeline(bundle: try fake.open(), engine: FakeEngine())
        return try await pipeline.plan(request)
    }

    private func refused(
        _ problem: RequestProblem, _ request: Request, line: UInt = #line,
        _ change: (FakeBundle) -> Void = { _ in }
    ) async throws {
        XCTAssertEqual(KDError.request(problem).localizedDescription.last, ".", line: line)
        await expect(KDError.request(problem), line: line) { _ = try await plan(request, change) }
    }

    private func refused(
        _ problem: RequestProblem, line: UInt = #line, _ ask: (inout Request) -> Void
    ) async throws {
        var request = Request(prompt: "a")
        ask(&request)
        try await refused(problem, request, line: line)
    }
}
