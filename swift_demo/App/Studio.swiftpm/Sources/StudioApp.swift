import KDCoreML
import KDStudio
import SwiftUI
import UIKit

/// The app: draws pictures with bundles of kdexport.
@main
struct StudioApp: App {
    @State private var studio = Studio(environment: .app)
    @AppStorage("bundle") private var lastBundle = ""
    @Environment(\.scenePhase) private var scenePhase

    var body: some Scene {
        WindowGroup {
            RootView()
                .environment(studio)
                .task { await studio.start(preferred: lastBundle) }
                .task { await watchMemory() }
                .onChange(of: scenePhase) {
                    if scenePhase == .background {
                        Task { await studio.enterBackground() }
                    }
                }
                .onChange(of: studio.phase.isBusy) {
                    // A screen that locks would put the app into the background.
                    UIApplication.shared.isIdleTimerDisabled = studio.phase.isBusy
                }
                .onChange(of: studio.current?.id) {
                    if let id = studio.current?.id { lastBundle = id }
                }
        }
    }

    private func watchMemory() async {
        for await pressure in MemoryPressure.events() {
            await studio.memoryIsShort(critical: pressure == .critical)
        }
    }
}
