import Foundation
import KDNumerics
import XCTest

final class RunGoldenTests: XCTestCase {
    private struct Run: Decodable {
        let name: String
        let steps: Int
        let first: Int?
        let largest: Float
        let timesteps: [Double]
        let diffusers: Goldens.Slice
        let inputs: Goldens.Slice
        let latents: Goldens.Slice
    }

    private struct Runs: Decodable {
        let outputs: Goldens.Slice
        let draws: Goldens.Slice
        let picture: Goldens.Slice
        let runs: [Run]
    }

    /// Draws tensors that are known.
    private struct Known: NoiseSource {
        var tensors: ArraySlice<Tensor>

        mutating func normal(_ shape: [Int]) -> Tensor {
            tensors.popFirst() ?? Tensor(repeating: .nan, shape: shape)
        }
    }

    private struct Walk {
        var inputs: [Tensor] = []
        var latents: [Tensor] = []
        var timesteps: [Double] = []
    }

    func testRunsAreThoseOfDiffusersAndOfPython() throws {
        let goldens = try Goldens.read(Runs.self, "runs.json")
        let floats = try Floats("runs.f32")
        let outputs = try slices(floats.tensor(goldens.outputs))
        let draws = try slices(floats.tensor(goldens.draws))
        let picture = floats.tensor(goldens.picture)
        var (worst, worstPlace, near) = (Float(0), "", 0)
        for (name, runs) in Dictionary(grouping: goldens.runs, by: \.name) {
            let sampler = try Goldens.read(Sampler.self, "samplers/\(name).json")
            for run in runs {
                var table = try sampler.table(steps: run.steps)
                var initial = draws[0]
                if let first = run.first {
                    let starts = try Goldens.read(ImageSampler.self, "samplers/\(name).image.json")
                    let start = try starts.start(steps: run.steps, first: first)
                    table = try start.table(table)
                    initial = try start.firstLatent(picture: picture, noise: draws[0])
                }
                let walk = try walk(table, initial, outputs, Known(tensors: draws[1...]))
                let place = "\(name), \(run.steps) steps from \(run.first ?? 0)"
                XCTAssertEqual(walk.timesteps, run.timesteps, place)
                // Python's own arithmetic, bit for bit.
                XCTAssertTrue(try walk.inputs == slices(floats.tensor(run.inputs)), place)
                XCTAssertTrue(try walk.latents == slices(floats.tensor(run.latents)), place)
                let theirs = try slices(floats.tensor(run.diffusers))
                let far = farthest(walk.inputs + walk.latents.suffix(1), theirs, run.largest)
                XCTAssertLessThanOrEqual(far.share, 1, place)
                if far.relative > worst { (worst, worstPlace) = (far.relative, place) }
                near += far.relative <= 1e-6 ? 1 : 0
            }
        }
        Goldens.checked(
            goldens.runs.count,
            "runs of schedulers, \(near) of them within 1e-6 of diffusers; the farthest is "
                + "\(worst) off (\(worstPlace))")
    }

    /// The largest difference in a row, relative to the row's peak, and as a share of what rounding
    /// explains.
    ///
    /// Tables are read off with 64 bits of numbers that schedulers round to 32, which is a few 1e-6
    /// of the peak where large terms cancel; and diffusers rounds the latent of every step, which
    /// counts where that is far larger than what comes of it: 4096 times, with zero terminal SNR.
    private func farthest(
        _ ours: [Tensor], _ theirs: [Tensor], _ largest: Float
    ) -> (relative: Float, share: Float) {
        zip(ours, theirs).reduce((0, 0)) { worst, pair in
            let peak = max(1, pair.1.values.reduce(0) { max($0, abs($1)) })
            let allowed = 2e-5 * peak + 4 * largest / Float(1 << 24)
            let far = deviation(pair.0, pair.1)
            return (max(worst.0, far / peak), max(worst.1, far / allowed))
        }
    }

    private func walk(
        _ table: SamplerTable, _ initial: Tensor, _ outputs: [Tensor], _ known: Known
    ) throws -> Walk {
        var (walk, noise) = (Walk(), known)
        var stepper = Stepper(table: table, initial: initial)
        while !stepper.isDone {
            walk.timesteps.append(try stepper.timestep)
            walk.inputs.append(try stepper.input())
            try stepper.push(outputs[stepper.calls], noise: &noise)
            walk.latents.append(try stepper.latent())
        }
        return walk
    }

    /// The entries of the first dimension, which is dropped.
    private func slices(_ tensor: Tensor) throws -> [Tensor] {
        try (0..<tensor.rows).map { try tensor.row($0).reshaped(Array(tensor.shape.dropFirst())) }
    }
}
