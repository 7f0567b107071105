import CoreML

/// What Core ML may run a model on, by the names that `kdexport` and the manifest have.
public enum ComputeUnits: String, Sendable, CaseIterable, Codable {
    /// Whatever Core ML finds best.
    case all
    /// The CPU.
    case cpuOnly = "cpu-only"
    /// The CPU and the GPU, for packages with `--attention original`.
    case cpuAndGPU = "cpu-and-gpu"
    /// The CPU and the Neural Engine, for packages with `--attention split-einsum`.
    case cpuAndNeuralEngine = "cpu-and-neural-engine"

    var coreMLUnits: MLComputeUnits {
        switch self {
        case .all: .all
        case .cpuOnly: .cpuOnly
        case .cpuAndGPU: .cpuAndGPU
        case .cpuAndNeuralEngine: .cpuAndNeuralEngine
        }
    }
}
