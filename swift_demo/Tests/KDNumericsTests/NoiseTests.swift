import KDNumerics
import XCTest

final class NoiseTests: XCTestCase {
    private struct Case: Decodable {
        let seed: UInt64
        let draws: [Goldens.Slice]
    }

    private struct Cases: Decodable {
        let tolerance: Float
        let torch: [Case]
        let numpy: [Case]
    }

    func testTorchDrawsAreTorchs() throws {
        let goldens = try Goldens.read(Cases.self, "noise.json")
        let floats = try Floats("noise.f32")
        var (count, exact, worst) = (0, 0, Float(0))
        for each in goldens.torch {
            var noise = TorchNoise(seed: each.seed)
            for slice in each.draws {
                let (ours, theirs) = (noise.normal(slice.shape), floats.tensor(slice))
                count += theirs.values.count
                exact += zip(ours.values, theirs.values).filter { $0 == $1 }.count
                if theirs.values.count < 16 {
                    XCTAssertEqual(ours, theirs, "seed \(each.seed), \(slice.shape)")
                }
                worst = max(worst, deviation(ours, theirs) { max(1, abs($0)) })
            }
        }
        XCTAssertLessThanOrEqual(worst, goldens.tolerance)
        Goldens.checked(
            count, "numbers of torch, \(exact) of them equal, the others within \(worst)")
    }

    func testNumpyDrawsAreNumpys() throws {
        let cases = try Goldens.read(Cases.self, "noise.json").numpy
        let floats = try Floats("noise.f32")
        var count = 0
        for each in cases {
            var noise = NumpyNoise(seed: UInt32(truncatingIfNeeded: each.seed))
            for slice in each.draws {
                let theirs = floats.tensor(slice)
                XCTAssertEqual(noise.normal(slice.shape), theirs, "seed \(each.seed)")
                count += theirs.values.count
            }
        }
        Goldens.checked(count, "numbers of NumPy")
    }

    func testOnlyTheLowHalfOfASeedCounts() {
        for seed in [0, 7, UInt64(UInt32.max)] {
            var (low, high) = (TorchNoise(seed: seed), TorchNoise(seed: seed + 3 << 32))
            XCTAssertEqual(low.normal([5]), high.normal([5]))
            XCTAssertEqual(low.normal([4, 9]), high.normal([4, 9]))
        }
    }

    func testACopyGoesOnByItself() {
        var first = TorchNoise(seed: 3)
        _ = first.normal([3])
        var second = first
        let expected = second.normal([20])
        XCTAssertEqual(first.normal([20]), expected)
        XCTAssertNotEqual(first.normal([20]), expected)
    }

    func testNumbersAreStandardNormal() {
        var sources: [any NoiseSource] = [TorchNoise(seed: 1), NumpyNoise(seed: 1)]
        for index in sources.indices {
            let values = sources[index].normal([20_000]).values.map(Double.init)
            let mean = values.reduce(0, +) / Double(values.count)
            let variance = values.reduce(0) { $0 + $1 * $1 } / Double(values.count) - mean * mean
            XCTAssertEqual(mean, 0, accuracy: 0.03)
            XCTAssertEqual(variance, 1, accuracy: 0.05)
        }
    }

    func testNoNumbersAreNothing() {
        var noise = TorchNoise(seed: 9)
        XCTAssertEqual(noise.normal([0, 4]).values, [])
        var other = TorchNoise(seed: 9)
        XCTAssertEqual(noise.normal([]).values, other.normal([1]).values)
    }
}
