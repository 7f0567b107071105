import KDNumerics
import XCTest

final class StepperTests: XCTestCase {
    private func start(_ seed: UInt64 = 0) throws -> (Stepper, TorchNoise) {
        var noise = TorchNoise(seed: seed)
        let initial = noise.normal([1, 4, 8, 8])
        return (Stepper(table: try SamplerTests.table(), initial: initial), noise)
    }

    func testWalksThroughTheTable() throws {
        var source = TorchNoise(seed: 5)
        let drawn = (0..<4).map { _ in source.normal([1, 4, 8, 8]) }
        var (stepper, noise) = try start(5)
        XCTAssertEqual(stepper.calls, 0)
        XCTAssertFalse(stepper.isDone)
        XCTAssertEqual(try stepper.timestep, 999)
        XCTAssertEqual(try stepper.input(), 0.5 * drawn[0])
        let first = drawn[0].map { $0 * 0.5 }
        try stepper.push(first, noise: &noise)
        XCTAssertEqual(try stepper.timestep, 499.5)
        let expected = try sum([(0.25, drawn[0]), (-2, first), (0.5, drawn[1]), (0.25, drawn[2])])
        XCTAssertEqual(try stepper.input(), expected)
        XCTAssertEqual(try stepper.latent(), expected / 0.25)
        let second = drawn[0].map { $0 - 1 }
        try stepper.push(second, noise: &noise)
        XCTAssertTrue(stepper.isDone)
        let last = try sum([
            (0.125, drawn[0]), (1, first), (3, second), (1, drawn[1]), (2, drawn[3]),
        ])
        XCTAssertEqual(try stepper.latent(), last)
    }

    func testLookingTwiceChangesNothing() throws {
        var (once, first) = try start()
        var (twice, second) = try start()
        while !once.isDone {
            let input = try once.input()
            try once.push(input, noise: &first)
            _ = (try twice.input(), try twice.latent(), try twice.input())
            try twice.push(input, noise: &second)
        }
        XCTAssertEqual(try once.latent(), try twice.latent())
    }

    func testACopyGoesOnByItself() throws {
        var (stepper, noise) = try start()
        let before = stepper
        try stepper.push(try stepper.input(), noise: &noise)
        XCTAssertEqual([before.calls, stepper.calls], [0, 1])
    }

    func testAFinishedStepperRefusesMore() throws {
        var (stepper, noise) = try start()
        while !stepper.isDone { try stepper.push(try stepper.input(), noise: &noise) }
        let misuses: [(inout Stepper, inout TorchNoise) throws -> Void] = [
            { stepper, _ in _ = try stepper.input() },
            { stepper, _ in _ = try stepper.timestep },
            { stepper, noise in try stepper.push(try stepper.latent(), noise: &noise) },
        ]
        for misuse in misuses {
            XCTAssertThrowsError(try misuse(&stepper, &noise)) { error in
                XCTAssertEqual(error as? SamplerError, .finished(calls: 2))
                XCTAssertTrue(error.localizedDescription.contains("made all of its 2 model calls"))
            }
        }
    }

    func testAnOutputOfAnotherShapeIsRefusedAndDrawsNothing() throws {
        var (stepper, noise) = try start()
        var same = noise
        let wrong = Tensor(repeating: 0, shape: [2, 4, 8, 8])
        XCTAssertThrowsError(try stepper.push(wrong, noise: &noise)) { error in
            XCTAssertEqual(
                error as? SamplerError, .shape([2, 4, 8, 8], latents: [1, 4, 8, 8]))
        }
        XCTAssertEqual(stepper.calls, 0)
        XCTAssertEqual(noise.normal([3]), same.normal([3]))
    }

    func testAnySourceOfNoiseServes() throws {
        var (stepper, _) = try start()
        var noise: any NoiseSource = NumpyNoise(seed: 1)
        try stepper.push(try stepper.input(), noise: &noise)
        XCTAssertEqual(stepper.calls, 1)
    }

    private func sum(_ terms: [(Float, Tensor)]) throws -> Tensor {
        try terms.dropFirst().reduce(terms[0].0 * terms[0].1) { try $0.adding($1.0 * $1.1) }
    }
}
