// swift-tools-version: 6.0
import PackageDescription

// Core ML exists on Apple's systems only. Elsewhere `KDCoreML` is compiled against a module of the
// same name that declares just what it uses, so that its types are checked on every machine.
#if canImport(Darwin)
    let coreML: [Target.Dependency] = []
    let stubs: [Target] = []
#else
    let coreML: [Target.Dependency] = ["CoreML"]
    let stubs: [Target] = [.target(name: "CoreML", path: "Stubs/CoreML")]
#endif

let package = Package(
    name: "KDDiffusion",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        // The pipeline with Core ML: what an app adds.
        .library(name: "KDDiffusion", targets: ["KDNumerics", "KDDiffusion", "KDCoreML"]),
        // What the app of this folder is made of, beside its views.
        .library(name: "KDStudio", targets: ["KDStudio"]),
        .executable(name: "kdimage", targets: ["kdimage"]),
    ],
    targets: stubs + [
        // Arrays, random numbers, compiled samplers, token ids, pixels: no bundle, no model.
        .target(name: "KDNumerics"),
        // Bundles and the denoising loop, on whatever runs the models.
        .target(name: "KDDiffusion", dependencies: ["KDNumerics"]),
        // Core ML as what runs the models.
        .target(name: "KDCoreML", dependencies: ["KDDiffusion", "KDNumerics"] + coreML),
        // The state of an app that draws, without its views.
        .target(name: "KDStudio", dependencies: ["KDNumerics", "KDDiffusion"]),
        .executableTarget(
            name: "kdimage", dependencies: ["KDNumerics", "KDDiffusion", "KDCoreML"]),
        .testTarget(name: "KDNumericsTests", dependencies: ["KDNumerics"]),
        .testTarget(name: "KDDiffusionTests", dependencies: ["KDDiffusion"]),
        .testTarget(name: "KDCoreMLTests", dependencies: ["KDCoreML"]),
        .testTarget(name: "KDStudioTests", dependencies: ["KDStudio"]),
        .testTarget(name: "kdimageTests", dependencies: ["kdimage"]),
    ],
    swiftLanguageModes: [.v6]
)
